import { expect, isSound } from './fixtures'
import { figuresAreTheirs, test } from './traded'
import { ask } from './trade'

interface Entry {
  seq: number
  kind: string
  id: string | null
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
  expect(await figuresAreTheirs(page, answers)).toBeGreaterThan(50)
  expect(list(await ask(admin, 'GET', '/admin/v1/ledger/entries?limit=1'))[0]?.seq).toBeGreaterThanOrEqual(numbers[0] ?? 0)
})

test('entries are found by kind, by account and by request', async ({ page, admin, visit }) => {
  await visit('books/ledger')
  await page.getByLabel('Kind').selectOption('payment')
  await expect(page.locator('details')).toHaveCount(1)
  await expect(page.locator('details')).toContainText('org/acme/money')
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
  await expect(page.getByRole('alert')).toContainText('there is no account `org/nobody/money`')
  await expect(page.getByRole('textbox', { name: 'Account' })).toHaveAttribute('aria-invalid', 'true')
  await isSound(page)
})

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
