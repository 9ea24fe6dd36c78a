import { expect, isSound, LOOKS, nameOf } from './fixtures'
import { figuresAreTheirs, test } from './traded'
import { ask } from './trade'

interface Entry {
  seq: number
  kind: string
  id: string | null
  at_ms: number
}
const list = (answer: Record<string, unknown>): Entry[] => answer['data'] as Entry[]

test('entries come newest first and balance; older ones on request', async ({ page, admin, answers, visit }) => {
  await visit('books/ledger')
  await expect(page.locator('[data-figure="data.0.seq"]')).toBeVisible()
  const seqs = await page.locator('details .seq').allTextContents()
  const numbers = seqs.map((text) => Number(text.replaceAll(',', '')))
  expect(numbers).toHaveLength(25)
  expect(numbers.every((seq, index) => index === 0 || seq === (numbers[index - 1] ?? 0) - 1)).toBe(true)
  await page.getByRole('button', { name: 'Older ones' }).click()
  await expect(page.locator('details')).toHaveCount(50)
  await page.locator('details').evaluateAll((all) => all.forEach((one) => ((one as HTMLDetailsElement).open = true)))
  const sums = await page.locator('[data-sum]').allTextContents()
  expect(sums.length).toBeGreaterThan(20)
  expect(new Set(sums.map((text) => text.replace(/[^\d.]/g, '')))).toEqual(new Set(['0', '0.00']))
  await isSound(page)
  // Their numbers at least: whether money moved in the last ones depends on which tests came before.
  expect(await figuresAreTheirs(page, answers)).toBeGreaterThanOrEqual(numbers.length)
  expect(list(await ask(admin, 'GET', '/admin/v1/ledger/entries?limit=1'))[0]?.seq).toBeGreaterThanOrEqual(numbers[0] ?? 0)
})

test('entries are found by kind, by account and by request', async ({ page, admin, visit }) => {
  await visit('books/ledger')
  await page.getByLabel('Kind').selectOption('payment')
  // Others of these tests record payments too.
  const payments = list(await ask(admin, 'GET', '/admin/v1/ledger/entries?kind=payment&limit=25')).length
  await expect(page.locator('details')).toHaveCount(payments)
  await expect(page.locator('details .kind')).toHaveText(Array<string>(payments).fill('Payment'))
  await expect(page.locator('details').last()).toContainText('org/acme/money')
  await page.getByRole('button', { name: 'Show all' }).click()
  await expect(page.locator('details')).toHaveCount(25)
  const charge = list(await ask(admin, 'GET', '/admin/v1/ledger/entries?kind=charge&limit=1'))[0]
  await page.getByLabel('Request').fill(`chatcmpl-${charge?.id ?? ''}`)
  await page.getByRole('button', { name: 'Show', exact: true }).click()
  await expect(page.locator('details')).toHaveCount(2)
  await expect(page.locator('details .kind')).toHaveText(['Cost of a request', 'Charge'])
  await expect(page).toHaveURL(/request=chatcmpl-/)
  await page.getByRole('button', { name: 'Show all' }).click()
  await page.getByRole('textbox', { name: 'Account' }).fill('org/nobody/money')
  await page.getByRole('button', { name: 'Show', exact: true }).click()
  await expect(page.getByRole('alert')).toContainText('There is no account “org/nobody/money”')
  await expect(page.getByRole('textbox', { name: 'Account' })).toHaveAttribute('aria-invalid', 'true')
  await isSound(page)
})

for (const look of LOOKS) {
  test(`entries of a period, ${nameOf(look)}`, async ({ page, admin, answers, visit }) => {
    const newest = list(await ask(admin, 'GET', '/admin/v1/ledger/entries?limit=1'))[0]
    const day = (offset: number): string => new Date((newest?.at_ms ?? 0) + offset * 86_400_000).toISOString().slice(0, 10)
    const [from, to] = [page.getByLabel(/^(From|从)/), page.getByLabel(/^(To|到)/)]
    const apply = page.getByRole('button', { name: /^(Show|显示)$/ })
    await visit('books/ledger', look)
    await from.fill(day(-1))
    await to.fill(day(0))
    const asked = page.waitForRequest(/ledger\/entries\?.*start_time/)
    await apply.click()
    const query = new URL((await asked).url()).searchParams
    expect([query.get('start_time'), query.get('end_time')].map(Number)).toEqual([Date.parse(day(-1)) / 1000, Date.parse(day(1)) / 1000])
    await expect(page).toHaveURL(new RegExp(`from=${day(-1)}&to=${day(0)}$`))
    await page.reload()
    await expect(from).toHaveValue(day(-1))
    await expect(to).toHaveValue(day(0))
    await expect(page.locator('[data-document*="end_time"] [data-figure="data.0.seq"]')).toBeVisible()
    await expect(page.locator('details')).toHaveCount(25)
    expect(await figuresAreTheirs(page, answers, look)).toBeGreaterThan(25)
    await page.getByRole('button', { name: /Older ones|更早的/ }).click()
    await expect(page.locator('details')).toHaveCount(50)
    await isSound(page)
    // Before the plant was, and then an end before the start.
    await from.fill(day(-9))
    await to.fill(day(-9))
    await apply.click()
    await expect(page.getByText(/No such entries|没有这样的分录/)).toBeVisible()
    await from.fill(day(0))
    await apply.click()
    await expect(page.getByRole('alert')).toHaveText(/The first must not be after the last|起始不得晚于结束/)
    await expect(from).toHaveAttribute('aria-invalid', 'true')
    await isSound(page)
    // A request goes with nothing else.
    const charge = list(await ask(admin, 'GET', '/admin/v1/ledger/entries?kind=charge&limit=1'))[0]
    await page.getByLabel(/^(Request|请求)$/).fill(`chatcmpl-${charge?.id ?? ''}`)
    await apply.click()
    await expect(page.locator('details')).toHaveCount(2)
    await expect(page).not.toHaveURL(/from=|to=/)
    for (const field of [from, to]) await expect(field).toHaveValue('')
  })
}

test('accounts stand with their balances, and lead to their entries', async ({ page, admin, answers, visit }) => {
  await visit('books/ledger')
  await page.getByRole('radio', { name: 'Accounts' }).check({ force: true })
  await page.getByLabel('Name has').fill('acme')
  await page.getByRole('button', { name: 'Show', exact: true }).click()
  await page.getByLabel('Kind').selectOption('customer')
  const row = page.getByRole('row', { name: /org\/acme\/money/ })
  await expect(row).toBeVisible()
  await expect(page.locator('tbody tr')).toHaveCount(1)
  await isSound(page)
  expect(await figuresAreTheirs(page, answers)).toBe(3)
  const standing = await ask(admin, 'GET', '/admin/v1/organisations/acme/standing')
  await expect(row).toContainText(`$${String(standing['balance'])}`)
  await row.getByRole('link').click()
  await expect(page.locator('details').first()).toContainText('org/acme/money')
  await expect(page.getByRole('textbox', { name: 'Account' })).toHaveValue('org/acme/money')
})
