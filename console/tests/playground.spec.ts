import type { Page } from '@playwright/test'
import * as format from '../src/format/format'
import type { Usage } from '../src/pages/playground/answer'
import { less } from '../src/api/cost'
import { expect, isSound, LOOKS, nameOf, open, test, WIDE } from './fixtures'
import { MODEL, start, type Plant } from './plant'

const TITLES = { en: 'Playground', zh: '试验台' } as const
const EN = 'en-US'

const field = (page: Page) => page.locator('main form textarea')
const figure = (page: Page, name: string) => page.locator(`main [data-figure="${name}"]`)

/** Writes and sends, and waits for the end of the answer. */
async function ask(page: Page, text: string): Promise<void> {
  await field(page).fill(text)
  await field(page).press('Control+Enter')
  await expect(figure(page, 'total').last()).toBeVisible()
}

/** The usage and the id that the server told in its last answer. */
function listen(page: Page): () => Promise<{ id: string; usage: Usage }> {
  const bodies: Promise<string>[] = []
  page.on('response', (response) => {
    if (/\/v1\/(chat\/)?completions$/.test(response.url())) bodies.push(response.text())
  })
  return async () => {
    const text = (await bodies.at(-1)) ?? ''
    const frames = text.split('\n').filter((line) => line.startsWith('data: {')).map((line) => JSON.parse(line.slice(6)))
    return frames.at(-1)
  }
}

for (const look of LOOKS) {
  test(`a chat is answered with its figures, ${nameOf(look)}`, async ({ page, plant }) => {
    const told = listen(page)
    await open(page, plant, 'playground', look)
    await expect(page.getByRole('heading', { level: 1, name: TITLES[look.language] })).toBeVisible()
    await expect(field(page)).toBeVisible()
    await isSound(page)
    await field(page).fill('Name a river.')
    await field(page).press('Enter')
    await expect(figure(page, 'price')).toBeVisible()
    await expect(field(page)).toHaveValue('')
    await isSound(page)
    const tag = look.language === 'en' ? EN : 'zh-CN'
    const { usage } = await told()
    const cached = usage.prompt_tokens_details?.cached_tokens ?? 0
    await expect(figure(page, 'in_uncached')).toHaveText(format.integer(usage.prompt_tokens - cached, tag))
    await expect(figure(page, 'in_cached')).toHaveText(format.integer(cached, tag))
    await expect(figure(page, 'out_visible')).toHaveText(format.integer(usage.completion_tokens, tag))
    await expect(figure(page, 'price')).toHaveText(format.money(usage.charged?.amount, usage.charged?.currency ?? '', tag))
  })
}

test('every parameter goes to the server, and a wrong one is told beside its field', async ({ page, plant }) => {
  await open(page, plant, 'playground', WIDE)
  await page.getByText('More parameters').click()
  const values = {
    Temperature: '0.5', 'Most tokens': '12', 'Top p': '0.9', 'Top k': '40', 'Min p': '0.05', Seed: '7', Candidates: '2', 'Stop at': 'END\n\\n\\n',
    'Presence penalty': '0.1', 'Frequency penalty': '0.2', 'Repetition penalty': '1.1', Priority: '-1', 'End user': 'ann', Tag: 'trial', 'Logit bias': '5: -1',
  }
  for (const [label, value] of Object.entries(values)) await page.getByLabel(label, { exact: true }).fill(value)
  await page.getByLabel('System message').fill('Answer in one word.')
  await page.getByLabel('Log-probabilities').check()
  await page.getByLabel('Go on past end tokens').check()
  const [request] = await Promise.all([page.waitForRequest(/chat\/completions$/), ask(page, 'A river?')])
  expect(request.postDataJSON()).toEqual({
    model: MODEL, messages: [{ role: 'system', content: 'Answer in one word.' }, { role: 'user', content: 'A river?' }], temperature: 0.5, max_tokens: 12,
    top_p: 0.9, top_k: 40, min_p: 0.05, seed: 7, n: 2, stop: ['END', '\n\n'], presence_penalty: 0.1, frequency_penalty: 0.2, repetition_penalty: 1.1,
    priority: -1, user: 'ann', metadata: { tag: 'trial' }, logit_bias: { 5: -1 }, ignore_eos: true, logprobs: true, top_logprobs: 5, stream: true,
    stream_options: { include_usage: true },
  })
  await page.getByLabel('Temperature').fill('warm')
  await field(page).fill('Again?')
  await field(page).press('Enter')
  await expect(page.getByRole('alert')).toContainText('must be a number')
  await page.getByLabel('Temperature').fill('9')
  await page.getByRole('button', { name: 'Send' }).click()
  await expect(page.getByLabel('Temperature')).toHaveAttribute('aria-invalid', 'true')
  await expect(page.getByRole('alert').first()).toContainText('from 0 to 2')
  // What was not answered is there to be sent again.
  await expect(field(page)).toHaveValue('Again?')
  await isSound(page)
})

test('tokens show their alternatives, by keyboard too', async ({ page, plant }) => {
  await open(page, plant, 'playground', WIDE)
  await page.getByLabel('Log-probabilities').check()
  await page.getByLabel('Candidates', { exact: true }).fill('2')
  await page.getByLabel('Most tokens').fill('16')
  await ask(page, 'Name a river.')
  const tokens = page.locator('[data-token]')
  const answer = (await tokens.allTextContents()).join('')
  await isSound(page)
  await tokens.first().focus()
  await page.keyboard.press('ArrowRight')
  await expect(tokens.nth(1)).toBeFocused()
  await expect(tokens.nth(1)).toHaveAttribute('aria-label', /\d%\. Instead: .+ \d/)
  const note = page.locator('.note')
  await expect(note.locator('.row')).not.toHaveCount(0)
  await expect(note.locator('.chosen')).toHaveCount(1)
  await page.keyboard.press('Escape')
  await expect(note).toHaveCount(0)
  await tokens.nth(3).hover()
  await expect(note).toBeVisible()
  await page.getByRole('radio', { name: 'Text', exact: true }).check({ force: true })
  await expect(page.locator('article .text')).toHaveText(answer.replaceAll('↵', '\n').trim(), { useInnerText: false })
  await page.getByRole('radio', { name: '2', exact: true }).check({ force: true })
  await expect(page.locator('article .text')).not.toHaveText('')
})

test('an answer is stopped, and the conversation goes on', async ({ page, plant }) => {
  await open(page, plant, 'playground', WIDE)
  await page.getByLabel('Most tokens').fill('2000')
  await page.getByText('More parameters').click()
  await page.getByLabel('Go on past end tokens').check()
  await field(page).fill('Tell a very long story.')
  await field(page).press('Enter')
  await expect(page.locator('article .text')).toContainText(/\w{3}/)
  await page.getByRole('button', { name: 'Stop', exact: true }).click()
  await expect(page.getByText('Stopped', { exact: true })).toBeVisible()
  const said = (await page.locator('article .text').textContent()) ?? ''
  await isSound(page)
  await page.getByLabel('Most tokens').fill('5')
  const [request] = await Promise.all([page.waitForRequest(/chat\/completions$/), ask(page, 'Go on.')])
  expect(request.postDataJSON().messages).toEqual([
    { role: 'user', content: 'Tell a very long story.' }, { role: 'assistant', content: said }, { role: 'user', content: 'Go on.' },
  ])
  // Another page and back: nothing is lost.
  await page.getByRole('link', { name: 'About' }).click()
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('About')
  await page.getByRole('link', { name: 'Playground' }).click()
  await expect(page.getByText('Tell a very long story.')).toBeVisible()
  await page.getByRole('button', { name: 'New conversation' }).click()
  await expect(page.getByText('Nothing asked yet')).toBeVisible()
})

for (const look of LOOKS) {
  test(`two sides continue one text, ${nameOf(look)}`, async ({ page, plant }) => {
    await open(page, plant, 'playground', look)
    await page.getByRole('radio').and(page.locator('[value=completion]')).check({ force: true })
    await page.getByRole('radio').and(page.locator('[value=two]')).check({ force: true })
    const sides = page.locator('.sides > section')
    await expect(sides).toHaveCount(2)
    await sides.nth(1).locator('summary').first().click()
    await sides.nth(1).locator('input[inputmode=decimal]').nth(1).fill('6')
    await sides.nth(0).locator('summary').first().click()
    await sides.nth(0).locator('input[inputmode=decimal]').nth(1).fill('3')
    await field(page).fill('Once upon a time')
    await field(page).press('Control+Enter')
    await expect(sides.nth(0).locator('[data-figure="out_visible"]')).toHaveText('3')
    await expect(sides.nth(1).locator('[data-figure="out_visible"]')).toHaveText('6')
    await isSound(page)
  })
}

test('the request is shown as code, which does the same', async ({ page, plant, context }) => {
  await context.grantPermissions(['clipboard-read', 'clipboard-write'])
  await open(page, plant, 'playground', WIDE)
  await page.getByLabel('Temperature').fill('0')
  await page.getByLabel('Most tokens').fill('8')
  await ask(page, `What's "x"?`)
  await page.getByRole('button', { name: 'View as code' }).click()
  const dialog = page.getByRole('dialog')
  for (const [name, text] of [['JavaScript', 'client.chat.completions.create'], ['Python', 'base_url='], ['curl', '/v1/chat/completions']] as const) {
    await dialog.getByRole('radio', { name }).check({ force: true })
    await expect(dialog.locator('pre')).toContainText(text)
  }
  await isSound(page)
  await dialog.getByRole('button', { name: 'Copy' }).click()
  const { execFileSync } = await import('node:child_process')
  const code = await page.evaluate(() => navigator.clipboard.readText())
  const out = execFileSync('bash', ['-c', code], { env: { ...process.env, TOKENWORKS_API_KEY: 'none' }, stdio: ['ignore', 'pipe', 'ignore'] }).toString()
  const words = [...out.matchAll(/"delta":\{"content":("(?:[^"\\]|\\.)*")/g)].map(([, json]) => JSON.parse(json ?? '""') as string).join('')
  await expect(page.locator('article .text')).toHaveText(words)
  await page.keyboard.press('Escape')
  await expect(dialog).toBeHidden()
})

test('keys of the plant see energy, cost and margin, as the API tells them', async ({ browser }) => {
  const own: Plant = await start()
  const context = await browser.newContext()
  const page = await context.newPage()
  await page.goto(own.claim ?? '')
  await page.getByRole('button').click()
  const key = (await page.locator('strong code').textContent()) ?? ''
  const told = listen(page)
  await open(page, own, 'playground', WIDE)
  await page.getByLabel('Most tokens').fill('8')
  await ask(page, 'Name a river.')
  await expect(figure(page, 'cost')).toBeVisible()
  const { id, usage } = await told()
  const cost = await (await fetch(`${own.url}/v1/costs/${id}`, { headers: { authorization: `Bearer ${key}` } })).json()
  const joules = cost.lines.reduce((sum: number, line: { energy_uj: number }) => sum + line.energy_uj, 0) / 1e6
  await expect(figure(page, 'joules')).toHaveText(`${format.decimal(joules, EN)} J`)
  await expect(figure(page, 'cost')).toHaveText(format.money(cost.attributed, cost.currency, EN))
  const margin = less(usage.charged?.amount ?? '', cost.attributed)
  await expect(figure(page, 'margin')).toHaveText(format.money(margin, cost.currency, EN))
  await isSound(page)
  await context.close()
  await own.stop()
})

test('a server that goes away during an answer is told of', async ({ browser }) => {
  const own = await start()
  const context = await browser.newContext()
  const page = await context.newPage()
  await open(page, own, 'playground', WIDE)
  await expect(field(page)).toBeVisible()
  await own.stop()
  await field(page).fill('Name a river.')
  await field(page).press('Enter')
  await expect(page.getByRole('alert').first()).toContainText('cannot be reached')
  await expect(field(page)).toHaveValue('Name a river.')
  await isSound(page)
  await context.close()
})
