import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, isSound, open, WIDE } from './fixtures'
import { newFolder, start } from './plant'
import { figuresAreTheirs, listen, signIn, test, testParts } from './traded'
import { ask, claim } from './trade'

testParts('the settings', [{ place: 'settings', ready: '[data-figure="plant.per_kwh"]', least: 12 }])

test('the example is told of, and all of the sheet is shown by its names', async ({ page, admin, visit }) => {
  await visit('settings')
  await expect(page.getByText('This is the example sheet')).toBeVisible()
  const settings = await ask(admin, 'GET', '/admin/v1/settings')
  const { sheet } = settings['plant'] as { sheet: Record<string, unknown> }
  const names = await page.locator('code').allTextContents()
  for (const [name, value] of Object.entries(sheet)) {
    const inner = ['network', 'operations'].includes(name) ? Object.keys(value as object).map((field) => `${name}.${field}`) : [name]
    for (const field of inner) expect(names).toContain(field)
  }
  await expect(page.getByText('not stated')).toHaveCount(3)
})

test('a sheet and objectives of one’s own are shown, and the versions before', async ({ browser }) => {
  test.setTimeout(240_000)
  const folder = newFolder()
  const first = await start(0, folder)
  const admin = await claim(first)
  await first.halt()
  const sheet = `idle_watts = 100\nfull_watts = 700.5\npue = 1.2\ncarbon_g_per_kwh = 30\nzone = "Europe/Berlin"\npower_cap_watts = 650
equipment = [{ name = "node", rent_per_hour = "2.50" }]
tariff = [{ per_kwh = "0.30", hours = "07:00-22:00" }, { per_kwh = "0.10", hours = "22:00-07:00" }]
fixed = [{ name = "training", amount = "1000", over_tokens = 5000000 }]\n`
  writeFileSync(join(folder, 'plant.toml'), sheet)
  const more = `[plant]\nsheet_file = ${JSON.stringify(join(folder, 'plant.toml'))}\n[slo]\nttft_ms = 1500\ne2e_ms = 30000\n`
  const own = await start(0, folder, { more })
  try {
    const context = await browser.newContext()
    const page = await context.newPage()
    const answers = listen(page)
    await signIn(page, { ...admin, url: own.url })
    await open(page, own, 'settings', WIDE)
    await expect(page.locator('[data-figure="plant.sheet.equipment.0.rent_per_hour"]')).toHaveText('$2.50')
    await expect(page.getByText('example sheet')).toHaveCount(0)
    for (const text of ['700.5 W', '650 W', 'Europe/Berlin', '22:00-07:00', '5,000,000 tokens', '1.5 sec', '30 sec']) await expect(page.getByText(text, { exact: true })).toBeVisible()
    await expect(page.locator('[data-figure="versions.0.version"]')).toHaveText('2')
    await isSound(page)
    expect(await figuresAreTheirs(page, answers)).toBeGreaterThanOrEqual(14)
    await context.close()
  } finally {
    await own.stop()
  }
})
