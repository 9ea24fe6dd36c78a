import { expect, isSound, LOOKS, nameOf } from './fixtures'
import { figuresAreTheirs, test } from './traded'
import { ask, trade } from './trade'

const text = (second: number): string => new Date(second * 1000).toISOString().slice(0, 19)
const now = (): number => Math.floor(Date.now() / 1000)

interface Answer {
  changes: { measure: string; from: string; to: string; change: string; parts: Record<string, string> }[]
}
/** Decimal text in nano-units. */
function nano(amount: string): bigint {
  const [whole = '0', fraction = ''] = amount.replace('-', '').split('.')
  const size = BigInt(whole + fraction.padEnd(9, '0'))
  return amount.startsWith('-') ? -size : size
}

test('two periods are compared, and the bridge adds up', async ({ page, plant, admin, answers, visit }) => {
  test.setTimeout(300_000)
  // The customer's first answers are one period; some more, with as much time beside them, the other.
  const [begin, middle] = [now() - 3600, now()]
  await new Promise((rest) => setTimeout(rest, 2500))
  await trade({ url: plant.url, key: admin.customer.key }, 12, 45)
  await new Promise((rest) => setTimeout(rest, 2500))
  const end = now()
  const query = `than=times&since=${text(middle)}&until=${text(end)}&csince=${text(begin)}&cuntil=${text(middle)}`
  for (const look of LOOKS) {
    await visit(`books/comparison?${query}`, look)
    // The address is the same in each look but for what the page reads when it starts.
    await page.reload()
    await expect(page.locator('[data-figure="changes.1.to"]'), nameOf(look)).toBeVisible()
    await isSound(page)
    expect(await figuresAreTheirs(page, answers, look)).toBeGreaterThanOrEqual(20)
  }
  const spans = `start_time=${middle}&end_time=${end}&compare_start_time=${begin}&compare_end_time=${middle}&exact=true`
  const { changes } = (await ask(admin, 'GET', `/admin/v1/comparison?${spans}`)) as unknown as Answer
  expect(changes.map(({ measure }) => measure)).toEqual(['total_cost', 'total_margin', 'cost_per_million', 'margin_per_million'])
  for (const { from, to, change, parts } of changes) {
    const sum = Object.values(parts).reduce((all, part) => all + nano(part), 0n)
    expect(sum).toBe(nano(change))
    expect(nano(to) - nano(from)).toBe(nano(change))
  }
  expect(nano(changes[0]?.parts['volume'] ?? '0')).not.toBe(0n)
  await page.getByRole('radio', { name: /^(Cost|成本)$/ }).check({ force: true })
  await expect(page.locator('[data-figure="changes.0.parts.efficiency"]')).toBeVisible()
  await expect(page).toHaveURL(/of=total_cost/)
})

test('periods that cannot be compared are told of where they are chosen', async ({ page, visit }) => {
  await visit('books/comparison?days=7')
  await expect(page.getByText('These periods cannot be compared').first()).toBeVisible()
  await expect(page.getByRole('alert')).toHaveCount(0)
  await isSound(page)
  await page.getByRole('radio', { name: 'Days', exact: true }).check({ force: true })
  const dates = page.getByRole('group', { name: 'The earlier days' })
  await expect(dates.getByLabel('From (UTC)')).toHaveAttribute('aria-invalid', 'true')
  // Today with the last seven days, of which it is the only one with work.
  const today = new Date().toISOString().slice(0, 10)
  await dates.getByLabel('To (UTC)').fill(today)
  await dates.getByLabel('From (UTC)').fill(today)
  await expect(page.locator('[data-figure="changes.1.change"]')).toBeVisible()
  await expect(page).toHaveURL(/cfrom=/)
})

test('a period may have any dates, and what is wrong with them is said beside them', async ({ page, visit }) => {
  await visit('books')
  await page.getByRole('radio', { name: 'Dates' }).check({ force: true })
  const dates = page.getByRole('group', { name: 'Dates' })
  const from = dates.getByLabel('From (UTC)')
  const asked = page.waitForRequest(/statement/)
  await from.fill('2026-02-03')
  const query = new URL((await asked).url()).searchParams
  expect(Number(query.get('start_time'))).toBe(Date.UTC(2026, 1, 3) / 1000)
  const to = await dates.getByLabel('To (UTC)').inputValue()
  expect(Number(query.get('end_time'))).toBe(Date.parse(`${to}T00:00:00Z`) / 1000 + 86_400)
  await expect(page).toHaveURL(/from=2026-02-03&to=/)
  await expect(page.locator('[data-figure="margin"]').first()).toBeVisible()
  await from.fill('2001-02-03')
  await expect(dates.getByRole('alert')).toContainText('reaches over ten years at most')
  await expect(from).toHaveAttribute('aria-invalid', 'true')
  await isSound(page)
  // Other parts keep the period.
  await from.fill(to)
  await page.getByRole('navigation', { name: 'Parts of this page' }).getByRole('link', { name: 'Usage and margin' }).click()
  await expect(page.locator('[data-figure="data.0.billed"]')).toBeVisible()
  await expect(from).toHaveValue(to)
  await visit(`value?from=${to}&to=${to}`)
  await expect(page.getByRole('group', { name: 'Dates' }).getByLabel('From (UTC)')).toHaveValue(to)
  await isSound(page)
})
