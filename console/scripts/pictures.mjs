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

/** A request that took a second or more. */
async function longest(page) {
  await page.locator('tbody a').first().waitFor()
  await page.getByLabel(/Took at least/).selectOption('1')
  await page.waitForTimeout(1000)
  await page.locator('tbody a').first().click()
  await page.locator('[data-figure="usage.e2e_ns"]').waitFor()
  await page.waitForTimeout(1500)
}

/** The next token under settings that leave a few. */
async function settle(page) {
  for (const [name, value] of [['Temperature', '0.7'], ['Top p', '0.8']]) await page.getByLabel(name, { exact: true }).fill(value)
  await page.locator('[data-figure="rest.raw"]').waitFor()
  await page.waitForTimeout(2000)
}

/** Compares the second half of the trade with the first. */
async function compare(page) {
  const text = (ms) => new Date(ms).toISOString().slice(0, 19)
  const [since, middle, until] = [traded.begun, traded.halved, traded.ended].map(text)
  await page.evaluate((query) => (location.hash = `#/books/comparison?${query}`), `than=times&since=${middle}&until=${until}&csince=${since}&cuntil=${middle}`)
  await page.locator('[data-figure="changes.1.to"]').waitFor()
}

const PICTURES = [
  { name: 'plant', place: 'plant', language: 'en', theme: 'light', width: 1440, height: 1100 },
  { name: 'plant-dark', place: 'plant', language: 'en', theme: 'dark', width: 1440, height: 1100 },
  { name: 'plant-zh', place: 'plant', language: 'zh', theme: 'light', width: 1440, height: 1100 },
  { name: 'plant-phone', place: 'plant', language: 'en', theme: 'dark', width: 390, height: 844, isWhole: true },
  { name: 'requests', place: 'requests', language: 'en', theme: 'light', width: 1440, height: 1000, isTraded: true },
  { name: 'request', place: 'requests', language: 'en', theme: 'dark', width: 1440, height: 1000, waitMs: 12_000, act: longest },
  { name: 'books', place: 'books', language: 'en', theme: 'light', width: 1440, height: 900, isWhole: true, isTraded: true },
  { name: 'books-zh', place: 'books/usage?by=tag', language: 'zh', theme: 'dark', width: 1440, height: 900, isTraded: true },
  { name: 'comparison', place: 'books/comparison?than=times', language: 'en', theme: 'light', width: 1440, height: 1000, isTraded: true, waitMs: 1000, act: compare },
  { name: 'planner', place: 'books/planner?machines=2', language: 'en', theme: 'light', width: 1440, height: 1000, isTraded: true, waitMs: 2500 },
  { name: 'ledger', place: 'books/ledger', language: 'zh', theme: 'dark', width: 1440, height: 900, isTraded: true },
  { name: 'settings', place: 'settings', language: 'en', theme: 'dark', width: 1440, height: 1000, isTraded: true },
  { name: 'value', place: 'value', language: 'en', theme: 'light', width: 1440, height: 900, isWhole: true, isTraded: true },
  { name: 'value-experiment', place: 'value/experiments/voice', language: 'en', theme: 'dark', width: 1440, height: 950, isTraded: true },
  { name: 'customers', place: 'customers/acme', language: 'en', theme: 'light', width: 1440, height: 700, isTraded: true },
  { name: 'playground', place: 'playground', language: 'en', theme: 'light', width: 1440, height: 1000, waitMs: 1000, act: chat },
  { name: 'token-lab', place: 'tokenlab', language: 'en', theme: 'light', width: 1440, height: 720, waitMs: 2000, isPaired: true },
  { name: 'token-lab-next', place: 'tokenlab/next', language: 'en', theme: 'dark', width: 1440, height: 1100, waitMs: 2000, act: settle },
  { name: 'token-lab-merges', place: 'tokenlab/merges', language: 'zh', theme: 'light', width: 1440, height: 900, waitMs: 2000 },
  { name: 'models', place: 'models', language: 'en', theme: 'light', width: 1440, height: 800, isTraded: true },
  { name: 'about', place: 'about', language: 'en', theme: 'dark', width: 1440, height: 900, isTraded: true },
  { name: 'sign-in', place: 'sign-in', language: 'en', theme: 'light', width: 1440, height: 900, waitMs: 1000 },
]
/** How long the plant works before it is taken a picture of. */
const WORK_MS = Number(process.env['PICTURE_WORK_MS'] ?? 40_000)
const folder = process.env['PICTURES'] ?? fileURLToPath(new URL('../../docs/pictures/', import.meta.url))
const chosen = process.argv.slice(2)

// The tests' own plant, without a second copy of it: Vite reads its TypeScript.
const vite = await createServer({ server: { middlewareMode: true }, appType: 'custom', logLevel: 'error' })
const { start, work, MODEL, OTHER_MODEL } = await vite.ssrLoadModule('/tests/plant.ts')
const trading = await vite.ssrLoadModule('/tests/trade.ts')
const wanted = PICTURES.filter(({ name }) => chosen.length === 0 || chosen.includes(name))
const plant = await start()
// One that has an administrator, and customers that have bought: its pages need a key.
const traded = wanted.some(({ isTraded }) => isTraded) ? await start() : undefined
// One with two tokenizers.
const paired = wanted.some(({ isPaired }) => isPaired) ? await start(0, undefined, { names: [MODEL, OTHER_MODEL] }) : undefined
const browser = await chromium.launch({
  executablePath: process.env['CHROMIUM'] ?? '/usr/bin/chromium',
  args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
})
let admin
if (traded) {
  admin = await trading.claim(traded)
  const { key } = await trading.customer(admin)
  // The halves differ in what they did: answers alone, then an experiment beside them.
  traded.begun = Date.now()
  await trading.trade({ url: traded.url, key }, 240)
  traded.halved = Date.now() + 2000
  await new Promise((rest) => setTimeout(rest, 4000))
  await trading.experiment({ url: traded.url, key }, 400)
  await new Promise((rest) => setTimeout(rest, 3000))
  traded.ended = Date.now()
}
let isWorking = true
const working = [0, 1].map(async () => {
  while (isWorking) await work(plant.url, {}, 160)
})
try {
  for (const picture of wanted) {
    const { language, theme, width, height } = picture
    const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, deviceScaleFactor: width < 600 ? 2 : 1 })
    const page = await context.newPage()
    await page.addInitScript((value) => localStorage.setItem('tokenworks.language', value), language)
    const { url } = picture.isTraded ? traded : picture.isPaired ? paired : plant
    if (picture.isTraded) await context.request.post(`${url}/v1/session`, { headers: { authorization: `Bearer ${admin.key}` }, data: {} })
    await page.goto(`${url}/#/${picture.place}`)
    await page.waitForTimeout(picture.waitMs ?? (picture.isTraded ? 1500 : WORK_MS))
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
  await traded?.stop()
  await paired?.stop()
  await vite.close()
}
