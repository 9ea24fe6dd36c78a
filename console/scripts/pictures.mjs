// Makes the pictures of the docs from a real plant at work: `npm run pictures`. Looks and pages are named here and nowhere else.
import { chromium } from '@playwright/test'
import { fileURLToPath } from 'node:url'
import { createServer } from 'vite'

/** A chat with two candidates, and the alternatives of a token that the model was not sure of. */
async function chat(page) {
  await page.locator('.checks input').first().check()
  await page.getByLabel('Temperature').fill('0.7')
  await page.getByLabel('Seed').fill('4')
  await page.getByLabel('Candidates', { exact: true }).fill('2')
  await page.locator('form textarea').fill('Name three rivers in Europe and one fact about each.')
  await page.locator('form textarea').press('Control+Enter')
  await page.locator('[data-figure=price]').waitFor()
  await page.locator('[data-token].level2').nth(1).focus()
}

const PICTURES = [
  { name: 'plant', place: 'plant', language: 'en', theme: 'light', width: 1440, height: 1100 },
  { name: 'plant-dark', place: 'plant', language: 'en', theme: 'dark', width: 1440, height: 1100 },
  { name: 'plant-zh', place: 'plant', language: 'zh', theme: 'light', width: 1440, height: 1100 },
  { name: 'plant-phone', place: 'plant', language: 'en', theme: 'dark', width: 390, height: 844, isWhole: true },
  { name: 'playground', place: 'playground', language: 'en', theme: 'light', width: 1440, height: 1000, waitMs: 1000, act: chat },
  { name: 'sign-in', place: 'sign-in', language: 'en', theme: 'light', width: 1440, height: 900, waitMs: 1000 },
]
/** How long the plant works before it is taken a picture of. */
const WORK_MS = Number(process.env['PICTURE_WORK_MS'] ?? 40_000)
const folder = process.env['PICTURES'] ?? fileURLToPath(new URL('../../docs/pictures/', import.meta.url))
const chosen = process.argv.slice(2)

// The tests' own plant, without a second copy of it: Vite reads its TypeScript.
const vite = await createServer({ server: { middlewareMode: true }, appType: 'custom', logLevel: 'error' })
const { start, work } = await vite.ssrLoadModule('/tests/plant.ts')
const plant = await start()
const browser = await chromium.launch({
  executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium',
  args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
})
let isWorking = true
const working = [0, 1].map(async () => {
  while (isWorking) await work(plant.url, {}, 160)
})
try {
  for (const picture of PICTURES.filter(({ name }) => chosen.length === 0 || chosen.includes(name))) {
    const { language, theme, width, height } = picture
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, deviceScaleFactor: width < 600 ? 2 : 1 })
    const page = await context.newPage()
    await page.addInitScript((value) => localStorage.setItem('tokenworks.language', value), language)
    await page.goto(`${plant.url}/#/${picture.place}`)
    await page.waitForTimeout(picture.waitMs ?? WORK_MS)
    await picture.act?.(page)
    await page.screenshot({ path: `${folder}/${picture.name}.png`, fullPage: picture.isWhole ?? false })
    console.log(`${picture.name}.png`)
    await context.close()
  }
} finally {
  isWorking = false
  await browser.close()
  await Promise.allSettled(working)
  await plant.stop()
  await vite.close()
}
