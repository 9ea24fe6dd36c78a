import { expect, isSound, open, WIDE } from './fixtures'
import { figuresAreTheirs, signIn, test, testParts, type Part } from './traded'

const PARTS: readonly Part[] = [
  { place: 'value', ready: 'svg circle', least: 14 },
  { place: 'value?step=week&tokens=output', ready: 'svg circle', least: 14 },
  { place: 'value/retention', ready: '[data-figure="data.0.ages.0.share"]', least: 2 },
  { place: 'value/experiments', ready: 'a:has-text("voice")', least: 0 },
  { place: 'value/experiments/voice', ready: '[data-figure="arms.0.metric"]', least: 20 },
  { place: 'value/outcomes', ready: '[data-figure="data.0.value"]', least: 10 },
  { place: 'value/outcomes?status=aside', ready: '[role=status]', least: 0 },
]

testParts('what answers were worth', PARTS)

test('intervals can be read as tables', async ({ page, answers, visit }) => {
  await visit('value')
  for (const name of ['TFP over time', 'By task', 'By prompt version']) {
    const card = page.getByRole('region', { name, exact: true }).first()
    await card.getByRole('radio', { name: 'Show as table' }).check({ force: true })
    await expect(card.getByRole('row').nth(1)).toContainText(/\d/)
  }
  await isSound(page)
  expect(await figuresAreTheirs(page, answers)).toBeGreaterThan(40)
})

test('a customer does not see what its answers cost', async ({ page, plant, admin }) => {
  await signIn(page, { url: plant.url, key: admin.customer.key })
  await open(page, plant, 'value', WIDE)
  await expect(page.locator('[data-figure="data.0.value_per_price"]').first()).toBeVisible()
  await expect(page.locator('[data-figure="data.0.value_per_cost"]')).toHaveCount(0)
})
