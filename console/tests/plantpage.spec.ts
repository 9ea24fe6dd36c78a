import type { Page } from '@playwright/test'
import * as format from '../src/format/format'
import { expect, isSound, LOOKS, nameOf, open, TAGS, test, WIDE, type Look } from './fixtures'
import { newFolder, start, work, type Plant } from './plant'

const TITLES = { en: 'Plant', zh: '生产线' } as const

type Json = Record<string, unknown>

/** The value at `decode.running`. */
function at(document: Json, path: string): unknown {
  return path.split('.').reduce<unknown>((value, name) => (value as Json)[name], document)
}

/** How a figure of the document is to be written, by its name alone. */
function written(document: Json, name: string, tag: string): string {
  if (name.includes('/')) return name.split('/').map((part) => written(document, part, tag)).join(' / ')
  const value = at(document, name) as number | string | null
  if (/_(per_hour|tokens)$|\.margin$/.test(name) && typeof value !== 'number') {
    return format.money(value, String(document['currency'] ?? at(document, 'plant.currency')), tag)
  }
  const number = value as number | null
  if (name.endsWith('_watts')) return format.power(number)
  if (name.endsWith('_joules')) return format.joules(number, tag)
  if (name.endsWith('figures.output_tokens')) return format.compact(number, tag)
  if (/utilisation$|_right$|\.share$/.test(name)) return format.percent(number, tag)
  if (/_per_second$|batch_columns$/.test(name)) return format.decimal(number, tag)
  if (name.endsWith('_seconds')) return format.duration(number, tag)
  return format.integer(number, tag)
}

/** All figures on the page and the snapshot they are of, read at one moment. */
async function shown(page: Page): Promise<{ id: string; figures: [string, string][] }> {
  return page.evaluate(() => ({
    id: document.querySelector<HTMLElement>('[data-snapshot]')?.dataset['snapshot'] ?? '',
    figures: [...document.querySelectorAll<HTMLElement>('[data-figure]')].map((one): [string, string] => [
      one.getAttribute('data-figure') ?? '',
      one.textContent ?? '',
    ]),
  }))
}

async function isLive(page: Page, look: Look): Promise<void> {
  await expect(page.getByRole('heading', { level: 1, name: TITLES[look.language] })).toBeVisible()
  await expect(page.locator('[data-figure="decode.running"]')).toBeVisible()
}

for (const look of LOOKS) {
  test(`the plant is shown live, ${nameOf(look)}`, async ({ page, plant }) => {
    await open(page, plant, '', look)
    await isLive(page, look)
    await expect(page.getByRole('listitem').filter({ has: page.locator('[data-figure]') })).toHaveCount(5)
    await isSound(page)
  })

  test(`every figure is the snapshot's, ${nameOf(look)}`, async ({ page, plant }) => {
    await open(page, plant, 'plant', look)
    await isLive(page, look)
    await work(plant.url)
    await expect(page.locator('[data-figure="ttft.count"]')).not.toHaveText('0')
    for (let round = 0; round < 3; round += 1) {
      const { id, figures } = await shown(page)
      const answer = await fetch(`${plant.url}/admin/v1/live/snapshot?id=${id}`)
      expect(answer.status).toBe(200)
      const document = (await answer.json()) as Json
      const expected = figures.map(([name]) => [name, written(document, name, TAGS[look.language])])
      expect(figures).toEqual(expected)
      expect(figures.length).toBeGreaterThan(30)
      await expect(page.locator(`[data-snapshot="${id}"]`)).toHaveCount(0)
    }
  })
}

test('work is seen while it is done', async ({ page, plant }) => {
  await open(page, plant, 'plant', WIDE)
  await isLive(page, WIDE)
  // One request after the other until it is seen: a single one may begin and end between two snapshots.
  let seen = false
  const working = (async () => {
    while (!seen) await work(plant.url, {}, 200)
  })()
  try {
    await expect(page.locator('[data-figure="decode.running"]')).toHaveText('1')
    await expect(page.locator('[data-figure="sample.output_tokens_per_second"]')).not.toHaveText('0')
  } finally {
    seen = true
    await working
  }
  await expect(page.locator('[data-figure="decode.running"]')).toHaveText('0')
})

/** Over a plant with objectives and a past: it answered, and was started again. Nothing waits for a minute to pass. */
const aged = test.extend<object, { plant: Plant }>({
  plant: [
    async ({}, use) => {
      const folder = newFolder()
      // A first token within a day and an end within a millisecond: all answers miss the second.
      const settings = '[slo]\nttft_ms = 86400000\ne2e_ms = 1\n'
      const first = await start(0, folder, { more: settings })
      await work(first.url)
      await work(first.url)
      await first.halt()
      const plant = await start(0, folder, { more: settings })
      await use(plant)
      await plant.stop()
    },
    { scope: 'worker', timeout: 300_000 },
  ],
})

for (const look of LOOKS) {
  aged(`figures are those of the API, gaps are gaps, ${nameOf(look)}`, async ({ page, plant }) => {
    await open(page, plant, 'plant?span=24h', look)
    await expect(page.locator('[data-figure="total.figures.ok"]')).toHaveText('2')
    // A minute may end between the page's question and this one: the page asks again then.
    await expect(async () => {
      const asked = (await page.locator('[data-document]').getAttribute('data-document')) ?? ''
      expect(asked).toContain('step=300')
      const document = (await (await fetch(plant.url + asked)).json()) as Json
      const figures = (await shown(page)).figures.filter(([name]) => /^(total|objectives)\./.test(name))
      expect(figures).toEqual(figures.map(([name]) => [name, written(document, name, TAGS[look.language])]))
      expect(figures.length).toBeGreaterThanOrEqual(20)
      const points = document['data'] as { figures: Json | null }[]
      expect(points.filter(({ figures }) => figures === null).length).toBeGreaterThanOrEqual(points.length - 3)
    }).toPass({ timeout: 20_000 })
    // The end is late, the first token is not.
    await expect(page.locator('tr', { has: page.locator('[data-figure="total.figures.e2e.p50_seconds"]') }).locator('.late')).toHaveCount(3)
    await expect(page.locator('tr', { has: page.locator('[data-figure="total.figures.ttft.p50_seconds"]') }).locator('.late')).toHaveCount(0)
    await expect(page.locator('[data-figure="total.figures.goodput.share"]')).toHaveText(format.percent(0, TAGS[look.language]))
    await isSound(page)
  })
}

aged('the choice stands in the address, and the table has a row for each step', async ({ page, plant }) => {
  await open(page, plant, 'plant', WIDE)
  await page.getByRole('radio', { name: '1 h', exact: true }).check({ force: true })
  await expect(page).toHaveURL(/#\/plant\?span=1h$/)
  await expect(page.locator('[data-figure="total.figures.ok"]')).toHaveText('2')
  const card = page.getByRole('region', { name: 'Power' }).first()
  await card.getByRole('radio', { name: 'Show as table' }).check({ force: true })
  await expect(card.getByRole('row').nth(1)).toContainText(/20\d\d/)
  await isSound(page)
  await page.getByRole('radio', { name: '5 min', exact: true }).check({ force: true })
  await expect(page).toHaveURL(/#\/plant$/)
  await expect(page.locator('[data-figure="ttft.count"]')).toBeVisible()
})

aged('a new minute comes by itself', async ({ page, plant }) => {
  await page.clock.install()
  await open(page, plant, 'plant?span=7d', WIDE)
  await expect(page.locator('[data-figure="total.figures.ok"]')).toBeVisible()
  const again = page.waitForResponse((response) => response.url().includes('/admin/v1/history'))
  await page.clock.fastForward(63_000)
  expect((await again).status()).toBe(200)
})

for (const look of LOOKS) {
  test(`a time of which no minute is kept says so, ${nameOf(look)}`, async ({ page, plant }) => {
    // An hour that ended before the plant was: what a new one shows until its first minute is over, whenever the test runs.
    await page.clock.setFixedTime(Date.now() - 86_400_000)
    const answered = page.waitForResponse((response) => response.url().includes('/admin/v1/history'))
    await open(page, plant, 'plant?span=1h', look)
    const history = (await (await answered).json()) as Json
    expect(at(history, 'total.figures')).toBeNull()
    await expect(page.getByText(look.language === 'en' ? 'No minutes yet' : '尚无分钟记录')).toBeVisible()
    await expect(page.locator('[data-figure^="total."]')).toHaveCount(0)
    // The live part goes on.
    await expect(page.locator('[data-figure="decode.running"]')).toBeVisible()
    await isSound(page)
  })
}

test('a plant without objectives says so', async ({ page, plant }) => {
  await open(page, plant, 'plant', WIDE)
  await expect(page.getByText('No objectives set.')).toBeVisible()
})

test('curves can be read as tables', async ({ page, plant }) => {
  await open(page, plant, 'plant', WIDE)
  await expect(page.locator('canvas')).toHaveCount(3)
  const card = page.getByRole('region', { name: 'Tokens per second' }).first()
  await card.getByRole('radio', { name: 'Show as table' }).check({ force: true })
  await expect(card.getByRole('columnheader', { name: 'Output' })).toBeVisible()
  await expect(card.getByRole('row').nth(1)).toContainText(/\d/)
  await isSound(page)
})

test('curves begin with what happened before the page was opened', async ({ browser }) => {
  const plant = await start()
  const context = await browser.newContext()
  const page = await context.newPage()
  const recent = async (): Promise<Json[]> => ((await (await fetch(`${plant.url}/admin/v1/live/recent`)).json()) as { data: Json[] }).data
  await expect.poll(async () => (await recent()).length).toBeGreaterThan(3)
  await work(plant.url)
  await expect.poll(async () => Number((await recent()).at(-1)?.['output_tokens_per_second'])).toBeGreaterThan(0)
  const known = await recent()
  await open(page, plant, 'plant', WIDE)
  const card = page.getByRole('region', { name: 'Tokens per second' }).first()
  await card.getByRole('radio', { name: 'Show as table' }).check({ force: true })
  await expect.poll(async () => Number(await card.getByRole('table').getAttribute('aria-rowcount'))).toBeGreaterThan(known.length)
  // The last row is the oldest, of a time in which nothing was made yet.
  await card.getByRole('group', { name: 'Tokens per second' }).last().evaluate((box) => box.scrollTo(0, box.scrollHeight))
  const oldest = card.getByRole('row').last()
  await expect(oldest).toContainText(format.clock(Number(known[0]?.['time_ms']), 'en'))
  await expect(oldest.getByRole('cell').nth(1)).toHaveText('0')
  await context.close()
  await plant.stop()
})

test('a server that goes and comes back is told of', async ({ browser }) => {
  const look = WIDE
  const first = await start()
  const port = Number(new URL(first.url).port)
  const context = await browser.newContext()
  const own = await context.newPage()
  await open(own, first, 'plant', look)
  await isLive(own, look)
  await first.stop()
  await expect(own.getByRole('alert')).toContainText('Connection lost')
  await isSound(own)
  const second = await start(port)
  await expect(own.getByRole('alert')).toHaveCount(0, { timeout: 40_000 })
  await isLive(own, look)
  await context.close()
  await second.stop()
})
