import { expect, isSound, open, WIDE } from './fixtures'
import { figuresAreTheirs, signIn, test, testParts, type Part } from './traded'
import { start } from './plant'
import { ask, claim } from './trade'

const PARTS: readonly Part[] = [
  { place: 'books', ready: '[data-figure="margin"]', least: 30 },
  { place: 'books/usage', ready: '[data-figure="data.0.billed"]', least: 9 },
  { place: 'books/usage?by=team', ready: 'td:has-text("growth")', least: 9 },
  { place: 'books/usage?by=day', ready: 'svg circle', least: 9 },
  { place: 'books/invoices', ready: '[data-figure="data.0.total"]', least: 1 },
  { place: 'books/prices', ready: 'td:has-text("starter")', least: 0 },
  { place: 'books/planner', ready: '[data-figure="month.margin"]', least: 60 },
  { place: 'books/ledger', ready: '[data-sum]', least: 25 },
  { place: 'books/ledger?view=accounts', ready: 'td:has-text("plant/revenue")', least: 8 },
  { place: 'books/audit', ready: 'td:has-text("experiment voice")', least: 0 },
  { place: 'books/alerts', ready: '.books:has([data-figure="data.0.left"]) [data-exact][data-figure="data.0.spent"]', least: 6 },
]

testParts('all of the books', PARTS)

test('the example sheet is told of, and the period can be chosen', async ({ page, visit }) => {
  await visit('books')
  await expect(page.getByText('example sheet')).toBeVisible()
  const asked = page.waitForRequest(/statement/)
  await page.getByRole('radio', { name: '7 days' }).check({ force: true })
  const start = Number(new URL((await asked).url()).searchParams.get('start_time'))
  expect(start % 86_400).toBe(0)
  expect(Date.now() / 1000 - start).toBeLessThan(7 * 86_400 + 60)
  await expect(page).toHaveURL(/days=7/)
})

test('a day that is typed is taken once its year is whole', async ({ page, visit }) => {
  await visit('books/usage')
  await expect(page.locator('[data-figure="data.0.billed"]')).toBeVisible()
  await page.getByRole('radio', { name: 'Dates' }).check({ force: true })
  const places: string[] = []
  page.on('framenavigated', () => places.push(page.url()))
  const from = page.getByLabel('From (UTC)')
  await from.pressSequentially('01022020')
  await expect(page).toHaveURL(/from=2020-01-02/)
  expect(places.filter((place) => !/from=20\d\d-/.test(place))).toEqual([])
  // What is begun and left is put back.
  await from.pressSequentially('010303')
  await page.getByRole('heading', { level: 1 }).click()
  await from.blur()
  await expect(from).toHaveValue('2020-01-02')
  await expect(page).toHaveURL(/from=2020-01-02/)
})

test('a period that cannot be is told of in the language of the page', async ({ page, visit }) => {
  await visit('books/usage?from=2026-11-09&to=2026-11-02', { language: 'zh', theme: 'light', width: 1440 })
  await expect(page.getByRole('alert').first()).toContainText('起始不得晚于结束')
  await expect(page.getByText(/must be|start_time/)).toHaveCount(0)
  await isSound(page)
})

test('an invoice opens and comes as a PDF', async ({ page, plant, answers, visit }) => {
  await visit('books/invoices/acme')
  await page.getByRole('link', { name: /^acme-\d/ }).click()
  await expect(page.locator('[data-figure="total"]')).toBeVisible()
  await isSound(page)
  expect(await figuresAreTheirs(page, answers)).toBeGreaterThan(6)
  // Below what it adds up, above what is taken off.
  const lines = await page.locator('table tr > :first-child').allTextContents()
  expect(lines.indexOf('Subtotal')).toBe(1 + lines.findLastIndex((line) => line.startsWith('Usage')))
  const link = page.getByRole('link', { name: /^PDF of/ })
  const answer = await page.context().request.get(new URL((await link.getAttribute('href')) ?? '', plant.url).href)
  expect(answer.headers()['content-type']).toBe('application/pdf')
  expect((await answer.body()).subarray(0, 5).toString()).toBe('%PDF-')
})

test('the ledger is verified', async ({ page, answers, visit }) => {
  await visit('books/ledger')
  await page.getByRole('button', { name: 'Verify the ledger' }).click()
  await expect(page.getByText('The ledger is right')).toBeVisible()
  await expect(page.locator('[data-document="/admin/v1/verify"] [data-figure]')).toHaveCount(4)
  expect(await figuresAreTheirs(page, answers)).toBeGreaterThan(4)
  await visit('books/audit')
  await page.getByRole('button', { name: 'Show: experiment voice' }).click()
  await expect(page.getByRole('dialog')).toContainText('"planned_units"')
  await isSound(page)
})

test('a price gets a new version, with a preview', async ({ page, admin, visit }) => {
  await visit('books/prices')
  await page.getByRole('row', { name: /standard.*In force/ }).getByRole('button', { name: 'New version' }).click()
  const dialog = page.getByRole('dialog')
  await expect(dialog.getByLabel('Input', { exact: true })).toBeFocused()
  await dialog.getByLabel('Output').fill('abc')
  await dialog.getByRole('button', { name: 'Publish the version' }).click()
  await expect(dialog.getByText('A decimal number of 0 or more')).toBeVisible()
  await isSound(page)
  // What was sold, at list price, is what the plant booked: the preview computes as it does.
  const report = await ask(admin, 'GET', '/admin/v1/report')
  const list = (report['totals'] as { list: string }).list
  await expect(dialog.getByText(`$${list}`, { exact: true })).toBeVisible()
  for (const from of ['', '2020-01-01T00:00']) {
    const field = dialog.getByLabel('In force from (UTC)')
    const kept = await field.inputValue()
    await field.fill(from)
    await dialog.getByRole('button', { name: 'Publish the version' }).click()
    await expect(dialog.getByText('A time that is to come.')).toBeVisible()
    await field.fill(kept)
  }
  await dialog.getByLabel('Output').fill('60')
  await expect(dialog.locator('.difference')).toHaveText(/^\$0\.\d*[1-9]\d*$/)
  await dialog.getByRole('button', { name: 'Publish the version' }).click()
  await expect(page.getByText('is in the book')).toBeVisible()
  const { data } = (await ask(admin, 'GET', '/admin/v1/prices')) as { data: { list: string; tiers: { output: string }[] }[] }
  expect(data.filter(({ list }) => list === 'standard').map(({ tiers }) => tiers[0]?.output)).toEqual(['30 per 1M', '60 per 1M'])
})

test('a plan is changed, unless somebody else was there first', async ({ page, admin, visit }) => {
  await visit('books/prices')
  await page.getByRole('button', { name: 'Edit: starter' }).click()
  const dialog = page.getByRole('dialog')
  await expect(dialog.getByText('Acme')).toBeVisible()
  await dialog.getByLabel('Discount, permille').fill('125')
  await page.waitForLoadState('networkidle')
  await ask(admin, 'PUT', '/admin/v1/plans', { id: 'starter', discount_permille: 10 })
  await dialog.getByRole('button', { name: 'Save the plan' }).click()
  await expect(dialog.getByRole('alert')).toContainText('Somebody changed it meanwhile')
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  await page.reload()
  await page.getByRole('button', { name: 'Edit: starter' }).click()
  await dialog.getByLabel('Discount, permille').fill('0')
  await dialog.getByRole('button', { name: 'Save the plan' }).click()
  await expect(page.getByText('Plan starter is changed.')).toBeVisible()
  expect(await ask(admin, 'GET', '/admin/v1/plans/starter')).toMatchObject({ discount_permille: 0 })
})

test('a plan is made, for a customer to be given', async ({ page, admin, visit }) => {
  await visit('books/prices')
  await page.getByRole('button', { name: 'New plan' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('Id').fill('starter')
  await dialog.getByLabel('Discount, permille').fill('1001')
  await dialog.getByRole('button', { name: 'Make the plan' }).click()
  await expect(dialog.getByRole('alert')).toContainText('0 to 1000')
  await isSound(page)
  await dialog.getByLabel('Discount, permille').fill('50')
  await dialog.getByLabel('Token pool per month').fill('1000000')
  await dialog.getByRole('button', { name: 'Make the plan' }).click()
  await expect(dialog.getByRole('alert')).toContainText('There is one with this id already')
  await dialog.getByLabel('Id').fill('team')
  await dialog.getByRole('button', { name: 'Make the plan' }).click()
  await expect(page.getByRole('row', { name: /team/ })).toContainText('1,000,000')
  expect(await ask(admin, 'GET', '/admin/v1/plans/team')).toMatchObject({ price_list: 'standard', discount_permille: 50, pool: { tokens: 1_000_000 } })
})

test('a customer sees its own usage and invoices and nothing else', async ({ page, plant, admin }) => {
  await signIn(page, { url: plant.url, key: admin.customer.key })
  await open(page, plant, 'books', WIDE)
  await expect(page.getByRole('navigation', { name: 'Parts of this page' }).getByRole('link')).toHaveText(['Usage', 'Invoices'])
  const { data } = (await ask({ url: plant.url, key: admin.customer.key }, 'GET', '/v1/usage')) as { data: { sums: { requests: number } }[] }
  const requests = data.reduce((sum, { sums }) => sum + sums.requests, 0)
  expect(requests).toBeGreaterThan(40)
  await expect(page.locator('td.number').first()).toHaveText(String(requests))
  await isSound(page)
  await page.getByRole('radio', { name: 'Day', exact: true }).check({ force: true })
  await expect(page.locator('svg circle').first()).toBeVisible()
  await isSound(page)
  await open(page, plant, 'books/prices', WIDE)
  await expect(page.getByText('Not for this key')).toBeVisible()
  await open(page, plant, 'books/invoices', WIDE)
  await expect(page.locator('[data-figure="data.0.total"]')).toBeVisible()
  await expect(page.getByRole('link', { name: 'Customers and keys' })).toHaveCount(0)
  await isSound(page)
})

test('a failed answer can be asked for again', async ({ page, visit }) => {
  await page.route('**/admin/v1/statement*', (route) => route.abort())
  await visit('books')
  await expect(page.getByRole('alert')).toContainText('cannot be reached')
  await isSound(page)
  await page.unroute('**/admin/v1/statement*')
  await page.getByRole('button', { name: 'Try again' }).click()
  await expect(page.locator('[data-figure="margin"]').first()).toBeVisible()
})

test('books in which nothing was sold yet are shown', async ({ browser }) => {
  const own = await start()
  try {
    const page = await browser.newPage()
    await signIn(page, await claim(own))
    await open(page, own, 'books', WIDE)
    await expect(page.locator('[data-figure="value.tfp.per_million"]')).toHaveText('—')
    await expect(page.locator('[data-figure="revenue"]').first()).toHaveText('$0.00')
    await page.close()
  } finally {
    await own.stop()
  }
})
