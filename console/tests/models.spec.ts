import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Page } from '@playwright/test'
import * as format from '../src/format/format'
import { expect, isSound, LOOKS, nameOf, open, test, WIDE, type Look } from './fixtures'
import { MODEL, start, type Plant } from './plant'

/** A LoRA adapter of rank 1 for one matrix of the default model, in a folder as PEFT writes it; it changes nothing (all zeros). */
function writeAdapter(folder: string): void {
  const WIDTH = 576
  const name = 'base_model.model.model.layers.0.self_attn.q_proj'
  const bytes = WIDTH * 4
  const header = JSON.stringify({
    [`${name}.lora_A.weight`]: { dtype: 'F32', shape: [1, WIDTH], data_offsets: [0, bytes] },
    [`${name}.lora_B.weight`]: { dtype: 'F32', shape: [WIDTH, 1], data_offsets: [bytes, 2 * bytes] },
  })
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(header.length))
  writeFileSync(join(folder, 'adapter_model.safetensors'), Buffer.concat([length, Buffer.from(header), Buffer.alloc(2 * bytes)]))
  const config = { peft_type: 'LORA', task_type: 'CAUSAL_LM', r: 1, lora_alpha: 1, bias: 'none', target_modules: ['q_proj'] }
  writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify(config))
}

const MIB = 1 << 20
const FETCH = {
  en: { button: 'Fetch and load', label: 'Fetch of', text: '40 MiB of 100 MiB fetched' },
  zh: { button: '下载并加载', label: '的下载进度', text: '已下载 40 MiB / 100 MiB' },
} as const
const TITLES = { en: 'Models', zh: '模型' } as const

for (const look of LOOKS) {
  test(`everybody sees what there is to ask for, ${nameOf(look)}`, async ({ page, plant }) => {
    await open(page, plant, 'models', look)
    await expect(page.getByRole('heading', { level: 1, name: TITLES[look.language] })).toBeVisible()
    await expect(page.getByRole('cell', { name: MODEL })).toBeVisible()
    await expect(page.getByRole('row')).toHaveCount(2)
    await isSound(page)
  })
}

test.describe('with a key of the plant', () => {
  let own: Plant
  let key = ''
  test.beforeAll(async ({ browser }) => {
    own = await start()
    const page = await browser.newPage()
    await page.goto(own.claim ?? '')
    await page.getByRole('button').click()
    key = (await page.locator('strong code').textContent()) ?? ''
    await page.close()
  })
  test.afterAll(async () => {
    await own.stop()
  })

  /** A page of its own, signed in. */
  async function signedIn(page: Page, look: Look): Promise<void> {
    await open(page, own, 'sign-in', look)
    await page.locator('input[type=password]').fill(key)
    await page.locator('button[type=submit]').click()
    await expect(page.locator('[data-figure="decode.running"]')).toBeVisible()
    await page.goto(`${own.url}/#/models`)
    await expect(page.getByRole('heading', { level: 2, name: MODEL })).toBeVisible()
  }

  for (const look of LOOKS) {
    test(`memory and models are as the API tells them, ${nameOf(look)}`, async ({ browser }) => {
      const context = await browser.newContext()
      const page = await context.newPage()
      await signedIn(page, look)
      const tag = look.language === 'en' ? 'en-US' : 'zh-CN'
      const told = await (await fetch(`${own.url}/admin/v1/models`, { headers: { authorization: `Bearer ${key}` } })).json()
      await expect(page.locator('[data-figure="memory"]')).toContainText(format.bytes(told.memory.taken, tag))
      await expect(page.locator('[data-figure="memory"]')).toContainText(format.bytes(told.memory.limit, tag))
      const card = page.getByRole('region', { name: MODEL })
      await expect(card).toContainText(format.bytes(told.data[0].weight_bytes, tag))
      await expect(card).toContainText(format.bytes(told.data[0].kv_bytes, tag))
      await isSound(page)
      await context.close()
    })
  }

  test('a model is unloaded, loaded and pinned', async ({ browser }) => {
    const context = await browser.newContext()
    const page = await context.newPage()
    await signedIn(page, WIDE)
    const card = page.getByRole('region', { name: MODEL })
    await card.getByRole('button', { name: /^Unload/ }).click()
    const dialog = page.getByRole('dialog', { name: `Unload ${MODEL}?` })
    await isSound(page)
    await dialog.getByRole('button', { name: 'Cancel' }).click()
    await expect(card.getByText('In memory')).toBeVisible()
    await card.getByRole('button', { name: /^Unload/ }).click()
    await dialog.getByRole('button', { name: 'Unload' }).click()
    await expect(card.getByText('Not in memory')).toBeVisible()
    await isSound(page)
    await card.getByRole('button', { name: /^Load/ }).click()
    await expect(card.getByText('In memory', { exact: true })).toBeVisible()
    await card.getByRole('button', { name: /^Pin/ }).click()
    await expect(card.getByText('Pinned', { exact: true })).toBeVisible()
    const told = await (await fetch(`${own.url}/admin/v1/models`, { headers: { authorization: `Bearer ${key}` } })).json()
    expect(told.data[0]).toMatchObject({ pinned: true, state: 'loaded' })
    await card.getByRole('button', { name: /^Unpin/ }).click()
    await expect(card.getByText('Pinned', { exact: true })).toHaveCount(0)
    await context.close()
  })

  for (const look of LOOKS) {
    test(`how far a fetch has come is shown until the model is in memory, ${nameOf(look)}`, async ({ browser }) => {
      const context = await browser.newContext()
      const page = await context.newPage()
      // The server's own answer, with the states of a fetch that the program's tests see for real.
      let now: Record<string, unknown> = { state: 'unloaded', must_fetch: true, fetching: null }
      await page.route('**/admin/v1/models', async (route) => {
        const response = await route.fetch()
        const told = await response.json()
        Object.assign(told.data[0], now)
        await route.fulfill({ response, json: told })
      })
      await page.route('**/admin/v1/models/*/load', async (route) => {
        now = { state: 'loading', must_fetch: true, fetching: { bytes: 0, total: null } }
        await expect(progress).not.toHaveAttribute('value')
        now = { ...now, fetching: { bytes: 40 * MIB, total: 100 * MIB } }
        await expect(progress).toHaveJSProperty('value', 40 * MIB)
        await expect(card.getByText(text)).toBeVisible()
        await isSound(page)
        now = {}
        await route.continue()
      })
      await signedIn(page, look)
      const { button, label, text } = FETCH[look.language]
      const card = page.getByRole('region', { name: MODEL })
      const progress = card.getByRole('progressbar', { name: label })
      await expect(progress).toHaveCount(0)
      const answered = page.waitForResponse('**/admin/v1/models/*/load')
      await card.getByRole('button', { name: button }).click()
      expect((await answered).ok()).toBe(true)
      await expect(progress).toHaveCount(0)
      await expect(card.getByRole('button', { name: button })).toHaveCount(0)
      await context.close()
    })
  }

  test('an adapter that is not there is refused beside its field, and nothing typed is lost', async ({ browser }) => {
    const context = await browser.newContext()
    const page = await context.newPage()
    await signedIn(page, WIDE)
    await page.getByRole('button', { name: 'Add an adapter' }).click()
    const dialog = page.getByRole('dialog')
    await dialog.getByRole('button', { name: 'Add', exact: true }).click()
    await expect(dialog.getByRole('alert')).toHaveCount(2)
    await dialog.getByLabel('Name').fill('legal')
    await dialog.getByLabel('Path').fill('/nowhere/legal')
    await dialog.getByRole('button', { name: 'Add', exact: true }).click()
    await expect(dialog.getByRole('alert')).toContainText('/nowhere/legal')
    await expect(dialog.getByLabel('Name')).toHaveValue('legal')
    await isSound(page)
    await page.keyboard.press('Escape')
    await expect(dialog).toBeHidden()
    await context.close()
  })

  test('an adapter is added, asked and taken away', async ({ browser }) => {
    const folder = mkdtempSync(join(tmpdir(), 'tokenworks-adapter-'))
    writeAdapter(folder)
    const context = await browser.newContext()
    const page = await context.newPage()
    await signedIn(page, WIDE)
    await page.getByRole('button', { name: 'Add an adapter' }).click()
    await page.getByRole('dialog').getByLabel('Name').fill('legal')
    await page.getByRole('dialog').getByLabel('Path').fill(folder)
    await page.getByRole('dialog').getByRole('button', { name: 'Add', exact: true }).click()
    const row = page.getByRole('listitem').filter({ hasText: 'legal' })
    await expect(row.getByText('In memory')).toBeVisible()
    await isSound(page)
    await page.goto(`${own.url}/#/playground?model=${MODEL}:legal`)
    await page.getByLabel('Most tokens').fill('4')
    await page.locator('main form textarea').fill('Name a river.')
    await page.locator('main form textarea').press('Enter')
    await expect(page.locator('[data-figure="out_visible"]')).toHaveText('4')
    await page.goto(`${own.url}/#/models`)
    await row.getByRole('button', { name: /^Unload/ }).click()
    await page.getByRole('dialog', { name: `Unload ${MODEL}:legal?` }).getByRole('button', { name: 'Unload' }).click()
    await expect(row).toHaveCount(0)
    await context.close()
    rmSync(folder, { recursive: true })
  })

  test('a model leads to the playground', async ({ browser }) => {
    const context = await browser.newContext()
    const page = await context.newPage()
    await signedIn(page, WIDE)
    await page.getByRole('link', { name: 'Try in the playground' }).click()
    await expect(page.getByRole('heading', { level: 1 })).toHaveText('Playground')
    await expect(page.getByRole('combobox')).toHaveValue(MODEL)
    await context.close()
  })

  test('what was last told stays while the server is gone', async ({ browser }) => {
    const context = await browser.newContext()
    const page = await context.newPage()
    await signedIn(page, WIDE)
    await context.setOffline(true)
    await expect(page.getByRole('alert')).toContainText('Connection lost')
    await expect(page.getByRole('heading', { level: 2, name: MODEL })).toBeVisible()
    await isSound(page)
    await context.setOffline(false)
    await expect(page.getByRole('alert')).toHaveCount(0)
    await context.close()
  })
})
