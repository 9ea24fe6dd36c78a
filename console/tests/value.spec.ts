import { expect, isSound, LOOKS, nameOf, open, type Look } from './fixtures'
import { figuresAreTheirs, listen, signIn, TAGS, test } from './traded'

const WIDE = LOOKS[0] as Look
const PARTS = [
  { place: 'value', ready: 'svg circle', least: 14 },
  { place: 'value?step=week&tokens=output', ready: 'svg circle', least: 14 },
  { place: 'value/retention', ready: '[data-figure="data.0.ages.0.share"]', least: 2 },
  { place: 'value/experiments', ready: 'a:has-text("voice")', least: 0 },
  { place: 'value/experiments/voice', ready: '[data-figure="arms.0.metric"]', least: 20 },
  { place: 'value/outcomes', ready: '[data-figure="data.0.value"]', least: 10 },
  { place: 'value/outcomes?status=aside', ready: '[role=status]', least: 0 },
]

for (const look of LOOKS) {
  test(`what answers were worth, ${nameOf(look)}`, async ({ page, plant, admin }) => {
    const answers = listen(page)
    await signIn(page, admin)
    for (const { place, ready, least } of PARTS) {
      await open(page, plant, place, look)
      await expect(page.locator(ready).first()).toBeVisible()
      await isSound(page)
      expect(await figuresAreTheirs(page, answers, TAGS[look.language]), place).toBeGreaterThanOrEqual(least)
    }
  })
}

test('intervals can be read as tables', async ({ page, plant, admin }) => {
  const answers = listen(page)
  await signIn(page, admin)
  await open(page, plant, 'value', WIDE)
  for (const name of ['TFP over time', 'By task', 'By prompt version']) {
    const card = page.getByRole('region', { name, exact: true }).first()
    await card.getByRole('radio', { name: 'Show as table' }).check({ force: true })
    await expect(card.getByRole('row').nth(1)).toContainText(/\d/)
  }
  await isSound(page)
  expect(await figuresAreTheirs(page, answers, TAGS.en)).toBeGreaterThan(40)
})

test('a customer does not see what its answers cost', async ({ page, plant, admin }) => {
  await signIn(page, { url: plant.url, key: admin.customer.key })
  await open(page, plant, 'value', WIDE)
  await expect(page.locator('[data-figure="data.0.value_per_price"]').first()).toBeVisible()
  await expect(page.locator('[data-figure="data.0.value_per_cost"]')).toHaveCount(0)
})
