import * as format from '../src/format/format'
import { expect, isSound, LOOKS, nameOf, TAGS } from './fixtures'
import { figuresAreTheirs, signIn, test } from './traded'
import { ask, type Caller } from './trade'
import { MODEL } from './plant'

type Json = Record<string, unknown>

/** An answer of the customer, and the request as the API tells of it once it is written. */
async function asked(caller: Caller, admin: Caller, body: Json): Promise<{ id: string; answer: Json }> {
  const answer = await ask(caller, 'POST', '/v1/completions', { model: MODEL, prompt: 'The towns beside the river', max_tokens: 24, ignore_eos: true, ...body })
  const text = encodeURIComponent(String(answer['id']))
  let id = ''
  await expect(async () => {
    const { data } = (await ask(admin, 'GET', `/admin/v1/requests?text=${text}`)) as { data: { id: string }[] }
    expect(data).toHaveLength(1)
    id = data[0]?.id ?? ''
  }).toPass()
  return { id, answer }
}

for (const look of LOOKS) {
  test(`the last requests and one of them, ${nameOf(look)}`, async ({ page, plant, admin, answers, visit }) => {
    const customer = { url: plant.url, key: admin.customer.key }
    const { id } = await asked(customer, admin, { n: 2, user: `look-${nameOf(look)}` })
    await ask(customer, 'POST', '/v1/feedback', { request: id, boolean: true, comment: 'solved it' })
    await visit('requests', look)
    const link = page.locator(`a[href="#/requests/${id}"]`)
    await expect(link).toBeVisible()
    await isSound(page)
    const row = page.getByRole('row').filter({ has: link })
    const { data } = (await ask(admin, 'GET', `/admin/v1/requests?text=${id}`)) as { data: Record<string, number>[] }
    const [tag, known] = [TAGS[look.language], data[0] ?? {}]
    for (const name of ['queue_ns', 'ttft_ns', 'e2e_ns']) await expect(row).toContainText(format.duration((known[name] ?? 0) / 1e9, tag))
    await expect(row).toContainText(`${format.integer(known['prompt_tokens'], tag)} → ${format.integer(known['completion_tokens'], tag)}`)

    await link.click()
    await expect(page.locator('[data-figure="usage.e2e_ns"]')).toBeVisible()
    await expect(page.locator('[data-figure="outcomes.0.value"]')).toBeVisible()
    const sum = page.locator('[data-figure="attributed"]')
    await expect(async () => {
      if (!(await sum.isVisible())) await page.getByRole('button', { name: /Try again|重试/ }).click({ timeout: 500 })
      await expect(sum).toBeVisible({ timeout: 500 })
    }).toPass()
    await isSound(page)
    expect(await figuresAreTheirs(page, answers, look)).toBeGreaterThan(15)
  })
}

test('a life can be stepped through and read as a table, and is the one that the API tells', async ({ page, plant, admin, visit }) => {
  const { id } = await asked({ url: plant.url, key: admin.customer.key }, admin, { max_tokens: 12 })
  const trace = (await ask(admin, 'GET', `/admin/v1/requests/${id}`)) as {
    timeline: { tokens: { at_ns: number }[]; prefill: { start_ns: number; tokens: number }[] }
    usage: { e2e_ns: number }
  }
  expect(trace.timeline.tokens).toHaveLength(12)
  await visit(`requests/${id}`)
  const life = page.getByRole('region', { name: 'Life of the request' })
  const steps = life.getByRole('slider', { name: 'Step through what happened' })
  await steps.focus()
  await page.keyboard.press('End')
  const [before, last] = trace.timeline.tokens.slice(-2)
  const said = `At ${format.duration((last?.at_ns ?? 0) / 1e9, 'en-US')}: token 12, ${format.duration(((last?.at_ns ?? 0) - (before?.at_ns ?? 0)) / 1e9, 'en-US')} after the one before.`
  await expect(steps).toHaveAttribute('aria-valuetext', said)
  await expect(life.getByText(said)).toBeVisible()
  // Pointing at where it waits tells of that.
  await life.locator('svg[role=img]').hover({ position: { x: 10, y: 12 } })
  await expect(life.getByText(/^Waited /)).toBeVisible()
  await life.getByRole('radio', { name: 'Show as table' }).check({ force: true })
  // The wait, the steps that read the prompt, and the tokens.
  await expect(life.getByRole('table')).toHaveAttribute('aria-rowcount', String(2 + trace.timeline.prefill.length + 12))
  await expect(life.getByRole('row', { name: /^Prompt read/ }).first()).toContainText(format.integer(trace.timeline.prefill[0]?.tokens, 'en-US'))
  await isSound(page)
})

test('what is new comes by itself, and filters stand in the address', async ({ page, plant, admin, visit }) => {
  await visit('requests')
  await expect(page.getByRole('row').nth(1)).toBeVisible()
  const { id } = await asked({ url: plant.url, key: admin.customer.key }, admin, { user: 'Zoë', max_tokens: 3 })
  const link = page.locator(`a[href="#/requests/${id}"]`)
  await expect(link).toBeVisible()
  await page.getByLabel('Search').fill('zoë')
  await expect(page).toHaveURL(/text=zo/)
  await expect(page.getByRole('row')).toHaveCount(2)
  await expect(link).toBeVisible()
  await page.getByLabel('Outcome').selectOption('failed')
  await expect(page).toHaveURL(/outcome=failed/)
  await expect(page.getByText('No request fits')).toBeVisible()
  await isSound(page)
  await page.reload()
  await expect(page.getByText('No request fits')).toBeVisible()
  await page.getByRole('button', { name: 'Clear filters' }).click()
  await expect(page.getByRole('row').nth(2)).toBeVisible()
  await expect(page).not.toHaveURL(/outcome|text/)
})

test('prompts and answers are kept where a project says so, and deleted', async ({ page, plant, admin, visit }) => {
  const customer = { url: plant.url, key: admin.customer.key }
  await visit('customers/acme')
  await page.getByRole('button', { name: 'Keep texts: web' }).click()
  const dialog = page.getByRole('dialog')
  await dialog.getByLabel('Kept for, in days').fill('400')
  await dialog.getByRole('button', { name: 'Save' }).click()
  await expect(dialog.getByRole('alert')).toContainText('1 to 365')
  await isSound(page)
  await dialog.getByLabel('Kept for, in days').fill('30')
  await dialog.getByRole('button', { name: 'Save' }).click()
  await expect(page.getByRole('row', { name: /web/ }).first()).toContainText('kept for 30 days')

  const { id, answer } = await asked(customer, admin, { max_tokens: 16 })
  const text = (answer['choices'] as { text: string }[])[0]?.text ?? ''
  await visit(`requests/${id}`)
  const texts = page.getByRole('region', { name: 'Prompt and answer' })
  await expect(texts.locator('pre').first()).toContainText('The towns beside the river')
  expect(await texts.locator('pre').nth(1).textContent()).toBe(text)
  await isSound(page)
  // A key of the customer that may not administer sees the request without them.
  await signIn(page, customer)
  await page.reload()
  await expect(page.getByText('Only keys that may administer the project may read them.')).toBeVisible()
  await expect(page.locator('pre')).toHaveCount(0)
  await signIn(page, admin)
  await page.reload()
  await texts.getByRole('button', { name: 'Delete' }).click()
  await dialog.getByRole('button', { name: 'Delete' }).click()
  await expect(page.getByText('Prompt and answer are deleted.')).toBeVisible()
  await expect(texts.getByText('Not kept')).toBeVisible()
  expect(((await ask(admin, 'GET', `/admin/v1/requests/${id}`)) as { content: unknown }).content).toBeNull()

  await visit('customers/acme')
  await page.getByRole('button', { name: 'Delete texts: web' }).click()
  await dialog.getByRole('button', { name: 'Delete texts' }).click()
  await expect(page.getByText(/Prompts and answers of \d+ requests of web are deleted/)).toBeVisible()
  await page.getByRole('button', { name: 'Keep texts: web' }).click()
  await dialog.getByLabel('Kept for, in days').fill('')
  await dialog.getByRole('button', { name: 'Save' }).click()
  await expect(page.getByRole('row', { name: /web/ }).first()).toContainText('not kept')
})

test('a part of a charge is given back, once', async ({ page, plant, admin, answers, visit }) => {
  const { id } = await asked({ url: plant.url, key: admin.customer.key }, admin, { max_tokens: 16 })
  const charge = async (): Promise<string> => ((await ask(admin, 'GET', `/admin/v1/requests/${id}`))['charge'] as { amount: string }).amount
  const before = await charge()
  await visit(`requests/${id}`)
  await page.getByRole('button', { name: 'Give back' }).click()
  const dialog = page.getByRole('dialog')
  await expect(dialog.getByLabel('Amount, USD')).toHaveValue(before)
  await dialog.getByLabel('Amount, USD').fill('0')
  await dialog.getByRole('button', { name: 'Give back' }).click()
  await expect(dialog.getByRole('alert')).toContainText('above 0')
  await isSound(page)
  await dialog.getByLabel('Amount, USD').fill('1000')
  await dialog.getByRole('button', { name: 'Give back' }).click()
  await expect(dialog.getByRole('alert')).toContainText('At most what was charged can be given back')
  await dialog.getByLabel('Amount, USD').fill('0.0001')
  await dialog.getByLabel('Reason').fill('slow')
  await dialog.getByRole('button', { name: 'Give back' }).dblclick()
  await expect(page.getByText('The credit note is booked.')).toBeVisible()
  const nano = (amount: string): bigint => BigInt(amount.replace('.', '').padEnd(amount.indexOf('.') + 9, '0'))
  await expect.poll(async () => nano(before) - nano(await charge())).toBe(100_000n)
  await expect(page.locator('[data-figure="charge.amount"]')).toHaveText(`$${await charge()}`)
  // What stands above the sum adds up to it.
  await expect(page.getByText('Given back', { exact: true })).toBeVisible()
  await expect(page.getByText('-$0.0001', { exact: true })).toBeVisible()
  expect(await figuresAreTheirs(page, answers)).toBeGreaterThan(3)
})
