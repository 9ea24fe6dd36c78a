import { precise } from '../src/format/format'
import { expect, isSound, LOOKS, nameOf, open, TAGS, WIDE, type Look } from './fixtures'
import { figuresAreTheirs, signIn, test, testParts, type Part } from './traded'
import { MODEL, start } from './plant'
import { ask, claim, customer, trade, type Caller } from './trade'

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
  { place: 'books/audit', ready: 'td:has-text("voice")', least: 0 },
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
  await page.getByRole('button', { name: `New version: ${MODEL} (standard)` }).click()
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
  await dialog.getByLabel('Discount, percent').fill('12.5')
  await page.waitForLoadState('networkidle')
  await ask(admin, 'PUT', '/admin/v1/plans', { id: 'starter', discount_permille: 10 })
  await dialog.getByRole('button', { name: 'Save the plan' }).click()
  await expect(dialog.getByRole('alert')).toContainText('Somebody changed it meanwhile')
  await dialog.getByRole('button', { name: 'Cancel' }).click()
  await expect(page.getByRole('row', { name: /starter/ })).toContainText('1%')
  await page.getByRole('button', { name: 'Edit: starter' }).click()
  await expect(dialog.getByLabel('Discount, percent')).toHaveValue('1')
  await dialog.getByLabel('Discount, percent').fill('0')
  await dialog.getByRole('button', { name: 'Save the plan' }).click()
  await expect(page.getByText('Plan starter is changed.')).toBeVisible()
  expect(await ask(admin, 'GET', '/admin/v1/plans/starter')).toMatchObject({ discount_permille: 0 })
})

test('a plan is made, for a customer to be given', async ({ page, admin, visit }) => {
  await visit('books/prices')
  await page.getByRole('button', { name: 'New plan' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('Id').fill('starter')
  await dialog.getByLabel('Discount, percent').fill('100.1')
  await dialog.getByRole('button', { name: 'Make the plan' }).click()
  await expect(dialog.getByRole('alert')).toContainText('from 0 to 100')
  await isSound(page)
  await dialog.getByLabel('Discount, percent').fill('2.5')
  await dialog.getByLabel('Token pool per month').fill('1000000')
  await dialog.getByLabel('Beyond the pool').selectOption('stop')
  await dialog.getByText('What a token takes from the pool').click()
  await dialog.getByLabel('Cached prompt').fill('0.0001')
  await dialog.getByRole('button', { name: 'Make the plan' }).click()
  await expect(dialog.getByRole('alert')).toHaveText('A number from 0 to 1000, e.g. 0.1')
  await isSound(page)
  await dialog.getByLabel('Cached prompt').fill('0.1')
  await dialog.getByRole('button', { name: 'Make the plan' }).click()
  await expect(dialog.getByRole('alert')).toContainText('There is one with this id already')
  await dialog.getByLabel('Id').fill('team')
  await dialog.getByRole('button', { name: 'Make the plan' }).click()
  await expect(page.getByRole('row', { name: /team/ })).toContainText('1,000,000')
  expect(await ask(admin, 'GET', '/admin/v1/plans/team')).toMatchObject({ price_list: 'standard', discount_permille: 25, pool: { tokens: 1_000_000, then: 'stop', weights: { input: 1000, cached_input: 100, output: 1000 } } })
  await expect(page.getByRole('row', { name: /team/ })).toContainText('stops')
})

/** A customer of a plan of its own, with a key to buy by. */
async function buyer(admin: Caller, id: string, plan: Record<string, unknown>): Promise<Caller> {
  await ask(admin, 'PUT', '/admin/v1/plans', { id, ...plan })
  await ask(admin, 'PUT', '/admin/v1/organisations', { id, name: id, plan: id })
  await ask(admin, 'PUT', '/admin/v1/projects', { id, organisation: id, name: id })
  return { url: admin.url, key: String((await ask(admin, 'POST', '/admin/v1/keys', { id, project: id, name: id }))['key']) }
}

interface Sales {
  data: { organisation: string; quantities: Record<'in_uncached' | 'in_cached' | 'out_visible' | 'out_reasoning', number> }[]
}

const plan = (look: Look, id: string) => ({
  title: look.language === 'en' ? `Change of plan ${id}` : `修改套餐 ${id}`,
  edit: `${look.language === 'en' ? 'Edit' : '编辑'}: ${id}`,
  pool: look.language === 'en' ? 'Token pool per month' : '每月词元池',
  stop: look.language === 'en' ? /Already beyond the new pool.*refused at once: pooled-/ : /本月已超出新词元池.*立即被拒绝：pooled-/,
})

for (const look of LOOKS) {
  test(`the effect of a pool is told as the plant counts it, ${nameOf(look)}`, async ({ page, admin, visit }) => {
    const id = `pooled-${nameOf(look).toLowerCase()}`
    const kept = { calendar: { zone: 'Asia/Shanghai', anchor_day: 15 }, limits: { requests_per_minute: 600 }, models: [MODEL] }
    const pool = { tokens: 1000, then: 'stop', weights: { input: 1000, cached_input: 100, output: 3000, reasoning: 0 } }
    await trade(await buyer(admin, id, { ...kept, pool }), 3, 500)
    const words = plan(look, id)
    await visit('books/prices', look)
    await page.getByRole('button', { name: words.edit }).click()
    const dialog = page.getByRole('dialog', { name: words.title })
    const { data } = (await ask(admin, 'GET', '/admin/v1/report?group_by=organisation')) as unknown as Sales
    const used = data.find(({ organisation }) => organisation === id)?.quantities
    const units = (used?.in_uncached ?? 0) * 1000 + (used?.in_cached ?? 0) * 100 + (used?.out_visible ?? 0) * 3000
    const { pool_units_left: left } = (await ask(admin, 'GET', `/admin/v1/organisations/${id}/standing`)) as { pool_units_left: number }
    // What the plant took of the pool is what the page weighs.
    expect(left).toBe(1_000_000 - units)
    expect(units).toBeGreaterThan(100_000)
    const figure = (name: string) => dialog.locator(`[data-effect="${name}"]`)
    const written = (size: number): string => precise(String(size / 1000), TAGS[look.language])
    await expect(figure('taken')).toHaveText(written(units))
    await expect(figure('beyond')).toHaveText('0')
    await expect(figure('left')).toHaveText(written(left))
    await dialog.getByLabel(words.pool).fill('10')
    await expect(figure('left').locator('span').first()).toHaveText(`${written(left)} → ${written(left - 990_000)}`)
    await expect(dialog.getByText(words.stop)).toBeVisible()
    await isSound(page)
    await dialog.getByRole('button').last().click()
    await expect(dialog).toBeHidden()
    // All that the form does not show is as it was.
    expect(await ask(admin, 'GET', `/admin/v1/plans/${id}`)).toMatchObject({ ...kept, id, price_list: 'standard', discount_permille: 0, pool: { ...pool, tokens: 10 } })
    // The plant does as the page said.
    const after = (await ask(admin, 'GET', `/admin/v1/organisations/${id}/standing`)) as { pool_units_left: number }
    expect(after.pool_units_left).toBe(left - 990_000)
  })
}

test('what a pool would have spared is a range, exact where it is known', async ({ browser }) => {
  const own = await start()
  try {
    const context = await browser.newContext()
    const page = await context.newPage()
    const admin = await claim(own)
    const { key } = await customer(admin)
    await trade({ url: own.url, key }, 6)
    await signIn(page, admin)
    await open(page, own, 'books/prices', WIDE)
    await page.getByRole('button', { name: 'Edit: starter' }).click()
    const dialog = page.getByRole('dialog')
    const { totals } = (await ask(admin, 'GET', '/admin/v1/report')) as { totals: { list: string; quantities: { in_uncached: number; in_cached: number; out_visible: number } } }
    const { in_uncached, in_cached, out_visible } = totals.quantities
    const amount = (name: string) => dialog.locator('dl > div').filter({ hasText: name }).locator('dd').last()
    await expect(amount('Before')).toHaveText(`$${totals.list}`)
    // All but ten tokens in the pool: at 10 per 1M at the least, at 30 at the most.
    await dialog.getByLabel('Token pool per month').fill(String(in_uncached + in_cached + out_visible - 10))
    await expect(amount('After')).toHaveText('$0.0001 – $0.0003')
    await expect(dialog.locator('[data-effect="beyond"] b')).toHaveText('10')
    await dialog.getByLabel('Beyond the pool').selectOption('stop')
    await expect(amount('After')).toHaveText('$0.00')
    await expect(dialog.getByText('requests are refused (402) until the next month')).toBeVisible()
    await dialog.getByLabel('Token pool per month').fill('9999999')
    await dialog.getByLabel('Beyond the pool').selectOption('overage')
    await expect(amount('After')).toHaveText('$0.00')
    // Nobody may ask any model.
    await dialog.getByLabel('Models').selectOption('some')
    await dialog.getByRole('button', { name: 'Save the plan' }).click()
    await expect(dialog.getByRole('alert')).toHaveText('Choose one at least, or all.')
    await isSound(page)
    await context.close()
  } finally {
    await own.stop()
  }
})

test('a price list is begun, and a plan takes it', async ({ page, admin, visit }) => {
  await visit('books/prices')
  await page.getByRole('button', { name: 'New price' }).click()
  const dialog = page.getByRole('dialog')
  await expect(dialog.getByLabel('Model')).toHaveValue(MODEL)
  await dialog.getByRole('button', { name: 'Add the price' }).click()
  await expect(dialog.getByRole('alert')).toHaveCount(3)
  await isSound(page)
  await dialog.getByLabel('Price list').fill('standard')
  await dialog.getByLabel('Input', { exact: true }).fill('8')
  await dialog.getByLabel('Output').fill('24.5')
  await dialog.getByRole('button', { name: 'Add the price' }).click()
  await expect(dialog.getByRole('alert')).toContainText('has a price of the model already')
  await expect(dialog.getByLabel('Model')).toHaveAttribute('aria-invalid', 'true')
  await dialog.getByLabel('Price list').fill('gold')
  await dialog.getByRole('button', { name: 'Add the price' }).click()
  await expect(page.getByText(`${MODEL} has a price in the list gold.`)).toBeVisible()
  const { data } = (await ask(admin, 'GET', '/admin/v1/prices')) as { data: { list: string; model: string; tiers: unknown[] }[] }
  expect(data.find(({ list }) => list === 'gold')).toMatchObject({ model: MODEL, tiers: [{ prompt_from: 0, volume_from: 0, input: '8 per 1M', output: '24.5 per 1M' }] })
  await page.getByRole('button', { name: 'New plan' }).click()
  await dialog.getByLabel('Id').fill('golden')
  await dialog.getByLabel('Price list').selectOption('gold')
  await dialog.getByRole('button', { name: 'Make the plan' }).click()
  await expect(page.getByText('Plan golden is made.')).toBeVisible()
  expect(await ask(admin, 'GET', '/admin/v1/plans/golden')).toMatchObject({ price_list: 'gold' })
  await page.getByRole('button', { name: 'Show: golden' }).click()
  await expect(page.getByRole('dialog', { name: 'Plan golden' })).toContainText('on day 1, at midnight in UTC')
  await isSound(page)
})

test('what the server says of a plan’s prices stands at their field', async ({ page, admin, visit }) => {
  await ask(admin, 'PUT', '/admin/v1/prices', { list: 'bronze', model: 'nobody-has-it', from: '2026-01-01T00:00:00Z', tiers: [{ input: '1 per 1M', output: '1 per 1M' }] })
  await buyer(admin, 'choosy', { models: [MODEL] })
  await visit('books/prices')
  await page.getByRole('button', { name: 'Edit: choosy' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('Price list').selectOption('bronze')
  await dialog.getByRole('button', { name: 'Save the plan' }).click()
  await expect(dialog.getByRole('group', { name: 'Only those chosen here' }).getByRole('alert')).toContainText(`No price in the list bronze: ${MODEL}`)
  // What the server refuses, with a list that the page does not know to be gone, stands at the list.
  await dialog.getByLabel('Models').selectOption('all')
  await page.route('**/admin/v1/plans', async (route) => {
    const body = route.request().postDataJSON() as Record<string, unknown>
    await route.continue({ postData: JSON.stringify({ ...body, price_list: 'gone' }) })
  })
  await dialog.getByRole('button', { name: 'Save the plan' }).click()
  await expect(dialog.getByRole('alert')).toContainText('there is no price list `gone`')
  await expect(dialog.getByLabel('Price list')).toHaveAttribute('aria-invalid', 'true')
  await isSound(page)
})

test('all tiers of a price are changed', async ({ page, admin, visit }) => {
  const tiers = [{ input: '8 per 1M', output: '24 per 1M' }, { volume_from: 1000, input: '6 per 1M', cached_input: '1 per 1M', output: '18 per 1M' }]
  await ask(admin, 'PUT', '/admin/v1/prices', { list: 'tiered', model: MODEL, from: '2026-01-01T00:00:00Z', tiers })
  await visit('books/prices')
  await page.getByRole('button', { name: `New version: ${MODEL} (tiered)` }).click()
  const dialog = page.getByRole('dialog')
  const tier = (number: number) => dialog.getByRole('group', { name: `Tier ${number}` })
  await expect(tier(2).getByLabel('Cached input')).toHaveValue('1')
  await dialog.getByRole('button', { name: 'Add a tier' }).click()
  await tier(3).getByLabel('Prompt tokens from').fill('500')
  await tier(3).getByLabel('Month’s tokens from').fill('7')
  await dialog.getByRole('button', { name: 'Publish the version' }).click()
  await expect(tier(3).getByRole('alert')).toHaveText('Prompts of this length need a tier from 0 tokens in the month, too.')
  await isSound(page)
  await tier(3).getByLabel('Month’s tokens from').fill('0')
  await tier(3).getByLabel('Output').fill('12')
  await dialog.getByRole('button', { name: 'Remove tier 1' }).click()
  await tier(1).getByLabel('Month’s tokens from').fill('0')
  await dialog.getByRole('button', { name: 'Publish the version' }).click()
  await expect(page.getByText('is in the book')).toBeVisible()
  const { data } = (await ask(admin, 'GET', '/admin/v1/prices')) as { data: { list: string; tiers: unknown[] }[] }
  expect(data.filter(({ list }) => list === 'tiered').at(-1)?.tiers).toEqual([
    { prompt_from: 0, volume_from: 0, input: '6 per 1M', cached_input: '1 per 1M', output: '18 per 1M' },
    { prompt_from: 500, volume_from: 0, input: '6 per 1M', cached_input: '1 per 1M', output: '12 per 1M' },
  ])
})

test('a comparison asks for nothing that cannot be answered until periods are chosen', async ({ page, visit }) => {
  const asked: string[] = []
  page.on('request', (request) => asked.push(request.url()))
  await visit('books/comparison')
  await expect(page.getByText('No two periods with sales yet')).toBeVisible()
  await isSound(page)
  expect(asked.filter((url) => url.includes('/admin/v1/comparison'))).toEqual([])
  await page.getByRole('radio', { name: '7 days' }).check({ force: true })
  await expect(page.getByText('These periods cannot be compared').first()).toBeVisible()
})

test('the tables of the planner are whole', async ({ page, visit }) => {
  await visit('books/planner')
  for (const name of ['One more machine', 'Economies of scale']) {
    const box = page.getByRole('group', { name })
    await expect(box).toBeVisible()
    expect(await box.evaluate((one) => one.scrollWidth - one.clientWidth), name).toBeLessThanOrEqual(0)
  }
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
