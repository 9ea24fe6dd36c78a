/** Fills a plant's books through its API: a customer, prices, answers, outcomes, an experiment. For tests and pictures. */
import { MODEL } from './plant'

/** What an administrator's calls need: nothing on the machine itself, else a key. */
export interface Caller {
  url: string
  key?: string
}

type Json = Record<string, unknown>

/** Calls the plant; an answer that is not good is an error with its text. */
export async function ask(to: Caller, method: string, path: string, body?: Json): Promise<Json> {
  const headers: Record<string, string> = { 'content-type': 'application/json' }
  if (to.key) headers['authorization'] = `Bearer ${to.key}`
  const init: RequestInit = { method, headers }
  if (body) init.body = JSON.stringify(body)
  const answer = await fetch(to.url + path, init)
  const text = await answer.text()
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`)
  return JSON.parse(text) as Json
}

/** Where a customer is, and its key. */
export interface Customer {
  organisation: string
  key: string
}

/** A customer that pays in advance, by a plan of its own, with an experiment under way. */
export async function customer(admin: Caller): Promise<Customer> {
  const organisation = 'acme'
  await ask(admin, 'PUT', '/admin/v1/prices', {
    model: MODEL,
    from: '2026-01-01T00:00:00Z',
    tiers: [{ input: '10 per 1M', output: '30 per 1M' }],
  })
  await ask(admin, 'PUT', '/admin/v1/plans', { id: 'starter' })
  await ask(admin, 'PUT', '/admin/v1/organisations', { id: organisation, name: 'Acme', plan: 'starter', credit: '0' })
  await ask(admin, 'PUT', '/admin/v1/teams', { id: 'growth', organisation, name: 'Growth' })
  await ask(admin, 'PUT', '/admin/v1/projects', { id: 'web', organisation, name: 'Web', team: 'growth' })
  await ask(admin, 'POST', '/admin/v1/payments', { organisation, amount: '5.00', reference: 'transfer 17' })
  const bounds = { budget: { amount: '0.50', period: 'month', alert_percent: [2, 4, 100] } }
  const made = await ask(admin, 'POST', '/admin/v1/keys', { id: 'web-1', project: 'web', name: 'Web', bounds })
  await ask(admin, 'PUT', '/admin/v1/experiments', {
    id: 'voice',
    organisation,
    unit: 'user',
    metric: 'value_per_unit',
    window_days: 0,
    arms: [
      { name: 'plain', weight: 450 },
      { name: 'warm', weight: 450, prompt_version: 'v2', settings: { temperature: 0.2 } },
      { name: 'none', weight: 100, held_out: true },
    ],
  })
  return { organisation, key: String(made['key']) }
}

const TASKS = ['support', 'sales', 'search'] as const

/** `count` answers of the customer with what became of them: two of three bring something. `first`: the number of the first. */
export async function trade(from: Caller, count: number, first = 0): Promise<void> {
  for (let number = first; number < first + count; number += 1) {
    const task = TASKS[number % TASKS.length] ?? 'support'
    const answer = await ask(from, 'POST', '/v1/completions', {
      model: MODEL,
      prompt: 'The towns beside the river',
      max_tokens: 8 + (number % 4) * 4,
      ignore_eos: true,
      user: `user-${number % 12}`,
      metadata: { task, prompt_version: number % 2 === 0 ? 'v1' : 'v2', tag: number % 2 === 0 ? 'red' : 'blue' },
    })
    if (number % 3 === 2) continue
    await ask(from, 'POST', '/v1/outcomes', {
      id: `outcome-${number}`,
      kind: task === 'sales' ? 'sale' : 'answer_used',
      request: answer['id'],
      value: (0.5 + (number % 5) * 0.25).toFixed(2),
      currency: 'USD',
      valuation: number % 2 === 0 ? 'measured' : 'estimated',
      accepted: number % 7 !== 0,
    })
  }
}

/** Prompts that the server takes in one question. */
const MOST_PROMPTS = 128
const KEPT_WITHIN_MS = 60_000

/** Has the plant answer `count` requests of a token, and waits until the list of the last requests has them. */
export async function fill(from: Caller, count: number): Promise<void> {
  for (let first = 0; first < count; first += MOST_PROMPTS) {
    const prompt = Array.from({ length: Math.min(MOST_PROMPTS, count - first) }, (_, index) => `The river ${first + index}`)
    await ask(from, 'POST', '/v1/completions', { model: MODEL, prompt, max_tokens: 1 })
  }
  for (const until = Date.now() + KEPT_WITHIN_MS; ; ) {
    const { newest } = await ask(from, 'GET', '/admin/v1/requests?limit=1')
    if (Number(newest) >= count) return
    if (Date.now() > until) throw new Error(`${String(newest)} of ${count} requests are kept`)
    await new Promise((rest) => setTimeout(rest, 200))
  }
}

/** `count` units of the experiment `voice`, each with an arm, an answer where it gets one, and perhaps a sale. */
export async function experiment(from: Caller, count: number): Promise<void> {
  for (let number = 0; number < count; number += 1) {
    const unit = `unit-${number}`
    const arm = await ask(from, 'POST', '/v1/experiments/voice/assignments', { unit })
    let of: Json = { experiment: 'voice', unit }
    if (!arm['held_out']) {
      const answer = await ask(from, 'POST', '/v1/completions', {
        model: MODEL,
        prompt: 'Dear customer,',
        max_tokens: 2,
        ignore_eos: true,
        user: unit,
        metadata: { experiment: 'voice', task: 'greeting' },
      })
      of = { request: answer['id'] }
    }
    if (number % (arm['arm'] === 'warm' ? 2 : 3) !== 0) continue
    await ask(from, 'POST', '/v1/outcomes', {
      id: `sale-${number}`,
      kind: 'sale',
      value: (1 + (number % 4) / 2).toFixed(2),
      currency: 'USD',
      valuation: 'measured',
      accepted: true,
      ...of,
    })
  }
}

/** The key of the administrator, which the one-time link of a plant gives once. */
export async function claim(plant: { url: string; claim: string | null }): Promise<Caller> {
  if (!plant.claim) throw new Error('this plant has an administrator already')
  const answer = await fetch(plant.claim, { method: 'POST', headers: { 'content-type': 'application/json', accept: 'application/json' } })
  const text = await answer.text()
  const key = /tw_\w+/.exec(text)?.[0]
  if (!key) throw new Error(`no key in: ${text}`)
  return { url: plant.url, key }
}
