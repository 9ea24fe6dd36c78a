import type { Page } from '@playwright/test'
import type { NextToken, TokenizeReply } from '../src/api/types'
import * as format from '../src/format/format'
import { expect, isSound, LOOKS, nameOf, open, TAGS, test, WIDE } from './fixtures'
import { MODEL, OTHER_MODEL, start, type Plant } from './plant'
import { ask, claim, type Caller } from './trade'
import { signIn } from './traded'

const TITLES = { en: 'Token lab', zh: '词元实验室' } as const
const TEXT = 'The darkness of 12 rivers: café, 东京\n'

const tokenize = async (url: string, model: string, more: object = {}): Promise<TokenizeReply> =>
  (await ask({ url }, 'POST', '/tokenize', { model, prompt: TEXT, parse_special: true, return_token_bytes: true, price: true, ...more })) as unknown as TokenizeReply

const write = (page: Page): Promise<void> => page.locator('main textarea').fill(TEXT)

/** The last distribution that the page was told. */
function listen(page: Page): () => Promise<NextToken> {
  const bodies: Promise<NextToken>[] = []
  page.on('response', (response) => {
    if (response.url().endsWith('/v1/next-token') && response.ok()) bodies.push(response.json() as Promise<NextToken>)
  })
  return async () => {
    await expect.poll(() => bodies.length).toBeGreaterThan(0)
    return bodies[bodies.length - 1] as Promise<NextToken>
  }
}

/** A plant of two models whose tokenizers are of different kinds. */
const paired = test.extend<object, { plant: Plant }>({
  plant: [
    async ({}, use) => {
      const plant = await start(0, undefined, { names: [MODEL, OTHER_MODEL] })
      await use(plant)
      await plant.stop()
    },
    { scope: 'worker', timeout: 240_000 },
  ],
})

for (const look of LOOKS) {
  paired(`two tokenizers stand side by side, ${nameOf(look)}`, async ({ page, plant }) => {
    const tag = TAGS[look.language]
    await open(page, plant, 'tokenlab', look)
    await expect(page.getByRole('heading', { level: 1, name: TITLES[look.language] })).toBeVisible()
    await write(page)
    for (const model of [MODEL, OTHER_MODEL]) {
      const told = await tokenize(plant.url, model)
      const column = page.locator(`[data-model="${model}"]`)
      await expect(column.locator('[data-figure="count"]')).toHaveText(format.integer(told.count, tag))
      const pieces = column.locator('[data-token]')
      await expect(pieces).toHaveCount(told.count)
      expect(await pieces.evaluateAll((all) => all.map((one) => Number(one.getAttribute('data-token'))))).toEqual(told.tokens)
      await expect(column.locator('[data-figure="price.amount"]')).toHaveText(format.exact(told.price?.amount, told.price?.currency ?? '', tag))
      const first = (told.token_bytes?.[1] ?? []).map((byte) => byte.toString(16).toUpperCase().padStart(2, '0')).join(' ')
      // What is scrolled under the pointer is pointed at.
      await page.mouse.move(0, 0)
      await pieces.nth(1).focus()
      await expect(column.locator('.note')).toContainText(first)
      await page.keyboard.press('ArrowRight')
      await expect(pieces.nth(2)).toBeFocused()
      await column.locator('summary').click()
      await expect(column.getByRole('table').getByRole('row').nth(2)).toContainText(first)
    }
    const [left, right] = await Promise.all([MODEL, OTHER_MODEL].map((model) => page.locator(`[data-model="${model}"]`).boundingBox()))
    expect(look.width < 600 ? (right?.y ?? 0) > (left?.y ?? 0) : right?.y === left?.y, 'beside each other, or under each other on a phone').toBe(true)
    await isSound(page)
  })
}

for (const look of LOOKS) {
  test(`merges step by step, ${nameOf(look)}`, async ({ page, plant }) => {
    await open(page, plant, 'tokenlab/merges', look)
    await write(page)
    const { merges } = await tokenize(plant.url, MODEL, { merges: true, add_special_tokens: false })
    const words = merges?.words ?? []
    await expect(page.locator('input[name=word]')).toHaveCount(words.length)
    const index = words.findIndex(({ start: pieces }) => pieces.join('') === ' darkness')
    const word = words[index]
    if (!word) throw new Error('no such word')
    await page.locator('input[name=word]').nth(index).check({ force: true })
    const shown = page.locator('.pieces code')
    const slider = page.locator('input[type=range]')
    const seen = (pieces: readonly string[]): string[] => pieces.map((piece) => piece.replaceAll(' ', '·'))
    await expect(shown).toHaveText(seen(word.steps.at(-1)?.pieces ?? []))
    await expect(page.locator('.ids')).toContainText(word.tokens.join(', '))
    await slider.fill('0')
    await expect(shown).toHaveText(seen(word.start))
    for (const step of word.steps) {
      await slider.press('ArrowRight')
      await expect(shown).toHaveText(seen(step.pieces))
      await expect(page.locator('.pieces .made')).toHaveText(seen(step.pieces)[step.at] ?? '')
      await expect(page.locator('[aria-live=polite]').filter({ hasText: format.integer(step.rank, TAGS[look.language]) })).toBeVisible()
    }
    await isSound(page)
  })

  test(`the next token under settings, ${nameOf(look)}`, async ({ page, plant }) => {
    const tag = TAGS[look.language]
    const told = listen(page)
    await open(page, plant, 'tokenlab/next', look)
    await expect(page.locator('[data-figure=possible]')).toBeVisible()
    await isSound(page)
    const plain = await told()
    expect(plain.tokens).toHaveLength(256)
    const rows = page.locator('tr[data-token]')
    await expect(rows).toHaveCount(20)
    for (const place of [0, 7, 19]) {
      const token = plain.tokens[place]
      if (!token) throw new Error('no such token')
      await expect(rows.nth(place)).toHaveAttribute('data-token', String(token.id))
      await expect(rows.nth(place).locator('[data-of=raw]')).toHaveText(format.chance(token.raw, tag))
      await expect(rows.nth(place).locator('[data-of=drawn]')).toHaveText(format.chance(token.drawn, tag))
    }
    await expect(page.locator('[data-figure="rest.raw"]')).toHaveText(format.chance(plain.rest.raw, tag))
    const charged = plain.usage.charged
    await expect(page.locator('[data-figure="usage.charged.amount"]')).toHaveText(format.exact(charged?.amount, charged?.currency ?? '', tag))
    // Three are left of all.
    const [request] = await Promise.all([page.waitForRequest(/next-token$/), page.locator('input[type=range]').nth(4).fill('3')])
    expect(request.postDataJSON()).toMatchObject({ model: MODEL, top_k: 3, answer_tokens: [] })
    await expect(page.locator('[data-figure=possible]')).toHaveText('3')
    await expect(rows.nth(3).locator('[data-of=drawn]')).toHaveText(format.percent(0, tag))
    const kept = (await told()).tokens.slice(0, 3)
    expect(kept.reduce((sum, { drawn }) => sum + drawn, 0)).toBeCloseTo(1, 9)
    for (const [place, token] of kept.entries()) await expect(rows.nth(place).locator('[data-of=drawn]')).toHaveText(format.chance(token.drawn, tag))
    await isSound(page)
  })
}

test('an answer is built token by token, and its penalties act', async ({ page, plant }) => {
  await open(page, plant, 'tokenlab/next', WIDE)
  const rows = page.locator('tr[data-token]')
  await expect(rows).toHaveCount(20)
  // What comes next comes again after it, so that its penalty is seen.
  const song = '0.00000000000000000000'
  const sung = page.waitForResponse((response) => response.url().endsWith('next-token') && response.request().postDataJSON().prompt === song)
  await page.locator('main textarea').fill(song)
  const first = ((await (await sung).json()) as NextToken).tokens[0]
  if (!first) throw new Error('no token')
  await expect(rows.nth(0)).toHaveAttribute('data-token', String(first.id))
  const added = page.waitForRequest((request) => request.url().endsWith('next-token') && request.postDataJSON().answer_tokens.length === 1)
  await rows.nth(0).getByRole('button').click()
  expect((await added).postDataJSON().answer_tokens).toEqual([first.id])
  await expect(page.locator('.answer code')).toHaveText([first.token.replaceAll(' ', '·')])
  const answer = page.waitForResponse((response) => response.url().endsWith('next-token') && response.request().postDataJSON().frequency_penalty === 2)
  await page.getByLabel('Frequency penalty').fill('2')
  const after = (await (await answer).json()) as NextToken
  const again = after.tokens.find(({ id }) => id === first.id)
  if (!again) throw new Error('the token is not among those that were told')
  expect(again.drawn).toBeLessThan(again.raw)
  await page.getByRole('button', { name: 'Add the drawn token' }).click()
  await expect(page.locator('.answer code')).toHaveCount(2)
  await page.getByRole('button', { name: 'Clear' }).click()
  await expect(page.getByText('Empty. Choose a token')).toBeVisible()
  await page.getByRole('button', { name: 'Show all 256' }).click()
  await expect(rows).toHaveCount(256)
  await isSound(page)
})

test('what is drawn on asks once, and the books have it', async ({ page, plant }) => {
  const usage = async (): Promise<number> => {
    const report = (await (await fetch(`${plant.url}/v1/usage`)).json()) as { data: { sums: { requests: number } }[] }
    return report.data.reduce((sum, row) => sum + row.sums.requests, 0)
  }
  await open(page, plant, 'tokenlab/next', WIDE)
  await expect(page.locator('[data-figure=possible]')).toBeVisible()
  let asked = 0
  page.on('request', (request) => (asked += Number(request.url().endsWith('next-token'))))
  const before = await usage()
  const slider = page.getByLabel('Temperature')
  await slider.focus()
  for (let press = 0; press < 10; press += 1) await slider.press('ArrowLeft')
  await expect(slider).toHaveValue('0.5')
  await expect(page.locator('.chances.stale')).toHaveCount(0)
  await expect.poll(usage).toBe(before + 1)
  expect(asked).toBe(1)
})

/** With an administrator, to whom alone it is shown what calls cost the plant. */
const owned = test.extend<object, { admin: Caller }>({
  admin: [async ({ plant }, use) => use(await claim(plant)), { scope: 'worker' }],
})

for (const look of [WIDE, ...LOOKS.slice(-1)]) {
  owned(`what a call cost the plant follows it, ${nameOf(look)}`, async ({ page, plant, admin }) => {
    const tag = TAGS[look.language]
    const told = listen(page)
    await signIn(page, admin)
    await open(page, plant, 'tokenlab/next', look)
    const line = page.locator('dd.hint').filter({ hasText: look.language === 'en' ? /^cost the plant/ : /^工厂成本 / })
    await expect(line).toBeVisible()
    const { id } = await told()
    interface Cost {
      attributed: string
      currency: string
      lines: { energy_uj: number }[]
    }
    const { attributed, currency, lines } = (await ask(admin, 'GET', `/v1/costs/${id}`)) as unknown as Cost
    const energy = lines.reduce((sum, { energy_uj }) => sum + energy_uj, 0)
    expect([Number(attributed) > 0, energy > 0]).toEqual([true, true])
    const [cost, joules] = [format.money(attributed, currency, tag), format.joules(energy / 1e6, tag)]
    await expect(line).toHaveText(look.language === 'en' ? `cost the plant ${cost}, ${joules}` : `工厂成本 ${cost}，${joules}`)
    await isSound(page)
  })
}
