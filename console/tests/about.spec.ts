import * as format from '../src/format/format'
import { expect, isSound, LOOKS, nameOf, open, test, WIDE } from './fixtures'
import { MODEL, start, work } from './plant'

const TITLES = { en: 'About', zh: '关于' } as const

for (const look of LOOKS) {
  test(`version and limits are as the API tells them, ${nameOf(look)}`, async ({ page, plant }) => {
    await open(page, plant, 'about', look)
    await expect(page.getByRole('heading', { level: 1, name: TITLES[look.language] })).toBeVisible()
    const tag = look.language === 'en' ? 'en-US' : 'zh-CN'
    const session = await (await fetch(`${plant.url}/v1/session`)).json()
    const snapshot = await (await fetch(`${plant.url}/admin/v1/live/snapshot`)).json()
    await expect(page.locator('[data-figure="version"]')).toHaveText(`Tokenworks ${session.version}`)
    await expect(page.locator('[data-figure="scopes"]')).toHaveText(session.scopes.join(', '))
    await expect(page.locator('[data-figure="tokenize.max_requests"]')).toHaveText(format.integer(snapshot.tokenize.max_requests, tag))
    await expect(page.locator('[data-figure="context.kv_blocks_total"]')).toHaveText(format.integer(snapshot.context.kv_blocks_total, tag))
    await isSound(page)
  })
}

test('keys of the plant see what was measured', async ({ browser }) => {
  const own = await start()
  const context = await browser.newContext()
  const page = await context.newPage()
  await page.goto(own.claim ?? '')
  await page.getByRole('button').click()
  const key = (await page.locator('strong code').textContent()) ?? ''
  const headers = { authorization: `Bearer ${key}` }
  await work(own.url, headers)
  await open(page, own, 'about', WIDE)
  const card = page.getByRole('region', { name: `Measured: ${MODEL}`, exact: true })
  const told = await (await fetch(`${own.url}/admin/v1/calibration`, { headers })).json()
  const steps = told.data[0].classes.filter((one: { steps: number }) => one.steps > 0)
  const table = card.getByRole('table', { name: `Steps of ${MODEL}` })
  await expect(table.getByRole('row')).toHaveCount(steps.length + 1)
  await expect(table.getByRole('row').nth(1)).toContainText(format.duration(steps[0].busy_ns / 1e9, 'en-US'))
  const models = await (await fetch(`${own.url}/admin/v1/models`, { headers })).json()
  await expect(page.locator('[data-figure="memory.limit"]')).toHaveText(format.bytes(models.memory.limit, 'en-US'))
  await isSound(page)
  await context.close()
  await own.stop()
})
