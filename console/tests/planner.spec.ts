import type { Page } from '@playwright/test'
import { expect, isSound } from './fixtures'
import { figuresAreTheirs, test } from './traded'
import { ask } from './trade'

/** All the books' planner says of the machine and its costs, so that figures are those of the test alone. */
const GIVEN = 'speed=1000&rent=3.6&fixed=73&operations=0&idle=0&full=100&kwh=0.30&input=16&output=32&machines=2'
const figure = (page: Page, name: string) => page.locator(`[data-figure="${name}"]`).first()

test('a plan is the one that the API makes, and sliders change it', async ({ page, admin, answers, visit }) => {
  await visit(`books/planner?${GIVEN}`)
  await expect(figure(page, 'price_per_million')).toHaveText('$20')
  const plan = await ask(admin, 'POST', '/admin/v1/plan', {
    machines: 2,
    line: { tokens_per_second: 1000 },
    load: { utilisation: 0.5 },
    price: { input: '16 per 1M', output: '32 per 1M' },
    plant: { rent_per_hour: '3.6', fixed_per_month: '73', operations_per_month: '0', idle_watts: '0', full_watts: '100', per_kwh: '0.30' },
  })
  expect(await (answers.get('/admin/v1/plan') ?? Promise.resolve({}))).toEqual(plan)
  expect(await figuresAreTheirs(page, answers)).toBeGreaterThan(60)
  // Half of what two machines can do: another one has nothing to do.
  await expect(page.getByText('the demand is met without it')).toBeVisible()
  const asked = page.waitForResponse('**/admin/v1/plan')
  await page.getByRole('slider', { name: 'Utilisation asked for' }).fill('120')
  await asked
  await expect(page.getByText('More is asked than these machines can do')).toBeVisible()
  await expect(page.getByText('demand waits for it')).toBeVisible()
  await expect(page).toHaveURL(/utilisation=120/)
  await expect(figure(page, 'month.utilisation')).toHaveText('100%')
  await isSound(page)
})

test('the break-even stands in a plot and in a table', async ({ page, answers, visit }) => {
  await visit(`books/planner?${GIVEN}`)
  const plot = page.getByRole('img', { name: /^Break-even: \d/ })
  await expect(plot).toBeVisible()
  const even = await figure(page, 'break_even.utilisation').textContent()
  await expect(plot.getByText(`Break-even at ${even}`)).toBeVisible()
  await page.getByRole('region', { name: 'Break-even' }).getByRole('radio', { name: 'Show as table' }).check({ force: true })
  await expect(figure(page, 'curve.0.tokens')).toHaveText('0')
  await isSound(page)
  expect(await figuresAreTheirs(page, answers)).toBeGreaterThan(100)
  for (const name of ['input', 'output']) await page.getByRole('textbox', { name: `Price of 1M ${name} tokens` }).fill('0')
  await expect(page.getByText('never: a token costs more than it brings')).toBeVisible()
})

test('the speed is the measured one, and what cannot be planned stands at its field', async ({ page, admin, visit }) => {
  await visit('books/planner')
  await expect(page.getByText(/as these books measured it/)).toBeVisible()
  const statement = await ask(admin, 'GET', '/admin/v1/statement')
  expect(statement['machine_tokens_per_second']).toBeGreaterThan(0)
  // The prices are those of the price book.
  await expect(page.getByRole('textbox', { name: 'Price of 1M input tokens' })).toHaveValue('10')
  await page.getByRole('textbox', { name: 'Machines' }).fill('0')
  await expect(page.getByRole('alert')).toHaveText('A whole number from 1 to 1,000,000.')
  await expect(page.getByRole('textbox', { name: 'Machines' })).toHaveAttribute('aria-invalid', 'true')
  await isSound(page)
  await page.getByRole('textbox', { name: 'Machines' }).fill('1')
  await page.getByText('Not as the plant sheet says').click()
  await page.getByLabel('Price of a kilowatt-hour').fill('cheap')
  await expect(page.getByRole('alert')).toHaveText('An amount of 0 or more, e.g. 2.50, or nothing.')
  await page.getByLabel('Price of a kilowatt-hour').fill('')
  await expect(page.getByRole('alert')).toHaveCount(0)
})

test('what cannot be planned is told in the language of the page', async ({ page, visit }) => {
  await visit('books/planner?machines=abc&mix=200', { language: 'zh', theme: 'light', width: 1440 })
  await expect(page.getByRole('alert')).toHaveText(['1 到 1,000,000 的整数。', '0 到 100 的数。'])
  await expect(page.getByText('请更正标出的内容以查看规划。')).toBeVisible()
  await isSound(page)
})
