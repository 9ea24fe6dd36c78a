/**
 * Shapes of answers that the API's document still calls a plain object, in one place, with their types. They move to the API's
 * schema (a Rust type with `ToSchema`), and then to `types.ts`; nothing else may be typed by hand.
 */
import { call, get, getTagged, urlOf } from './client'
import { anything, flag, list, nullable, number, object, pair, text, word, type Of, type Shape } from './shape'

/** Decimal text, exact. */
const amount = text

/** Tokens by kind. */
const quantities = object({ in_uncached: number, in_cached: number, out_visible: number, out_reasoning: number })
export type Quantities = Of<typeof quantities>
/** Which plant sheets costs rest on; `example`: on figures that are nobody's. */
const sheet = object({ version: nullable(number), versions: list(number), example: flag })
/** Times are Unix seconds. */
const span = { currency: text, start_time: number, end_time: number }

/** Value, tokens and what they brought. */
const productivity = {
  requests: number,
  outcomes: number,
  accepted_outcomes: number,
  adoption_rate: nullable(number),
  coverage: nullable(number),
  matured: nullable(number),
  price: amount,
  value_per_price: nullable(number),
  proxy: amount,
  tokens: object({ input: number, output: number, total: number, cached_input: number, reasoning: number }),
  tokens_per_accepted_outcome: nullable(number),
  value: object({ measured: amount, contracted: amount, estimated: amount, total: amount }),
  /** `null` where nothing was asked; `reason`: why there is no interval. */
  tfp: nullable(object({ denominator: text, per_million: nullable(number), reason: nullable(text) }, { low: nullable(number), high: nullable(number) })),
}
/** Of keys with the scope `plant` alone. */
const plantOnly = { cost: amount, costed: nullable(number), value_per_cost: nullable(number) }
const tfpRow = object(productivity, {
  ...plantOnly,
  day: text,
  week: text,
  month: text,
  task: text,
  prompt_version: text,
  model: text,
  organisation: text,
  project: text,
})
export type TfpRow = Of<typeof tfpRow>
/** `aside`: outcomes that wait for their requests. */
const tfpReport = object({ ...span, data: list(tfpRow), aside: number })
export type TfpReport = Of<typeof tfpReport>

const statement = object({
  ...span,
  revenue: amount,
  cost: amount,
  attributed: amount,
  idle: amount,
  in_progress: amount,
  margin: amount,
  sold: object({ list: amount, discount: amount, credited: amount, pooled_tokens: number, requests: number, quantities }),
  sources: list(object({ source: text, cost: amount, permille: nullable(number), usual_permille: nullable(pair(number)) })),
  models: list(object({ model: text, revenue: amount, attributed: amount, costed_tokens: number, energy_uj: number, machine_ns: number, quantities })),
  per_million: object({ billed: nullable(amount), attributed: nullable(amount), full: nullable(amount), marginal: nullable(amount) }),
  uj_per_output_token: nullable(number),
  energy_uj: number,
  estimated_permille: nullable(number),
  utilisation_permille: nullable(number),
  length_ns: number,
  goodput: object({ stated: number, met: number, share: nullable(number), requests_per_second: nullable(number) }),
  value: object({ ...productivity, ...plantOnly }),
  sheet,
})
export type Statement = Of<typeof statement>

const marginRow = object(
  {
    requests: number,
    tokens: quantities,
    billed: amount,
    attributed: amount,
    full: nullable(amount),
    margin: amount,
    wasted: amount,
    energy_uj: number,
  },
  { organisation: text, project: text, model: text, tag: text, day: text },
)
export type MarginRow = Of<typeof marginRow>
const margins = object({ ...span, data: list(marginRow), sheet })
export type Margins = Of<typeof margins>

const tier = object({ prompt_from: number, volume_from: number, input: text, output: text }, { cached_input: text, reasoning: text })
export type Tier = Of<typeof tier>
const price = object({ list: text, model: text, from: text, tiers: list(tier) })
export type Price = Of<typeof price>
const limits = object(
  {},
  {
    requests_per_minute: number,
    input_tokens_per_minute: number,
    output_tokens_per_minute: number,
    total_tokens_per_minute: number,
    concurrent_requests: number,
  },
)
const plan = object(
  { id: text, price_list: text, discount_permille: number, calendar: object({ zone: text, anchor_day: number }), limits },
  { pool: object({ tokens: number }, { then: text }), models: list(text) },
)
export type Plan = Of<typeof plan>
const budget = object({ amount, period: text }, { soft: flag, alert_percent: list(number) })
export type Budget = Of<typeof budget>
const bounds = object({ limits }, { budget })
/** `credit`: how far the balance may go below zero; none: as far as it likes. */
const organisation = object({ id: text, name: text, plan: text, suspended: flag, bounds }, { credit: amount })
/** `store_content`: for how long prompts and answers of its requests are kept; none: they are not. */
const project = object({ id: text, name: text, organisation: text, suspended: flag, bounds }, { store_content: object({ days: number }) })
export type Project = Of<typeof project>
const key = object({ id: text, name: text, project: text, prefix: text, scopes: list(text), revoked: flag, bounds }, { expires: text })
export type Key = Of<typeof key>
/** What making or rotating a key answers: the secret, told this once. */
export const madeKey = object({ key: text })
const standing = object({ balance: amount, held: amount, pool_units_left: nullable(number) })
const report = object({
  ...span,
  data: list(object({ quantities, requests: number, list: amount, revenue: amount }, { organisation: text, model: text })),
})
export type Report = Of<typeof report>

const act = object({ seq: number, at_ms: number, actor: text, record: text, before: anything, after: anything })
export type Act = Of<typeof act>
const auditLog = object({ data: list(act), has_more: flag, next_after: nullable(number) })
export type AuditLog = Of<typeof auditLog>
const verification = object({ entries: number, accounts: number, holds: number, tallies: number })
export type Verification = Of<typeof verification>
const alert = object({
  at: text,
  level: text,
  id: text,
  window: text,
  percent: number,
  amount,
  spent: amount,
  delivery: object({ state: word('pending', 'delivered', 'given_up') }),
})
export type Alert = Of<typeof alert>

const retention = object({
  level: number,
  partial: text,
  weeks: number,
  data: list(object({ week: text, units: number, ages: list(object({ age: number, share: number, units: number, low: number, high: number })) })),
})
/** What can no longer be read has its entry and its status only. `told_at`: Unix seconds. */
const outcome = object(
  { entry: number, status: text },
  {
    id: text,
    kind: text,
    organisation: text,
    project: text,
    value: amount,
    currency: text,
    valuation: text,
    accepted: flag,
    revision: number,
    told_at: number,
    comment: text,
    category: text,
    number: text,
  },
)
export type Outcome = Of<typeof outcome>
const outcomes = object({ data: list(outcome), aside: number, has_more: flag })
export type Outcomes = Of<typeof outcomes>
/** What a request's own document has of them. */
export const outcomesOfRequest = list(outcome)
const interval = nullable(object({ low: number, high: number, level: number }))
const estimate = object({ estimate: number, interval })
const experiment = object(
  {
    id: text,
    organisation: text,
    unit: text,
    metric: text,
    state: text,
    arms: list(object({ name: text, weight: number }, { held_out: flag, model: text, prompt_version: text })),
  },
  { winner: text },
)
const experimentResult = object({
  experiment,
  currency: text,
  control: text,
  metric_unit: text,
  arms: list(
    object({
      name: text,
      weight: number,
      held_out: flag,
      units: number,
      compared_units: number,
      requests: number,
      tokens: object({ total: number }),
      value: amount,
      accepted_outcomes: number,
      metric: nullable(number),
    }),
  ),
  comparisons: list(
    object({ arm: text, decided: flag, metric: nullable(number), difference: nullable(estimate), lift: nullable(estimate), reason: nullable(text) }),
  ),
  /** Without `tfp` where it cannot be estimated. */
  incremental: nullable(object({ tfp: nullable(object({ estimate: number, interval, reason: nullable(text) })) })),
  maturity: object({ compared: number, units: number, waiting: number, window_days: number, remark: nullable(text) }),
  sample_ratio: nullable(object({ mismatch: flag, p_value: number })),
})
export type ExperimentResult = Of<typeof experimentResult>

const adapter = object({ name: text, state: text, reason: nullable(text), weight_bytes: nullable(number) })
export type AdministeredAdapter = Of<typeof adapter>
/** A model as administrators see it. */
export const administeredModel = object({
  name: text,
  state: text,
  reason: nullable(text),
  weight_bytes: nullable(number),
  aliases: list(text),
  pinned: flag,
  context_len: nullable(number),
  kv_bytes: nullable(number),
  running: nullable(number),
  waiting: nullable(number),
  idle_seconds: nullable(number),
  adapters: list(adapter),
})
export type AdministeredModel = Of<typeof administeredModel>
const calibration = object({
  data: list(
    object({
      model: text,
      started_from: text,
      terms: list(object({ counts: text, ns: number })),
      classes: list(object({ class: text, steps: number, busy_ns: number, predicted_ns: number, error_permille: nullable(number) })),
    }),
  ),
})
export type CalibrationReport = Of<typeof calibration>
/** What one answer cost. */
const requestCost = object({
  currency: text,
  lines: list(object({ purpose: text, machine_ns: number, energy_uj: number, attributed: amount })),
  per_token: amount,
  network: amount,
  attributed: amount,
  wasted: amount,
  sheet,
})
export type RequestCost = Of<typeof requestCost>

/** What each of these routes answers. */
const documents = {
  '/admin/v1/statement': statement,
  '/v1/margins': margins,
  '/admin/v1/report': report,
  '/admin/v1/verify': verification,
  '/admin/v1/audit': auditLog,
  '/admin/v1/alerts': object({ currency: text, webhook: flag, data: list(alert) }),
  '/admin/v1/models': object({ data: list(administeredModel), memory: object({ taken: number, limit: nullable(number) }) }),
  '/admin/v1/calibration': calibration,
  '/v1/costs/{id}': requestCost,
  '/v1/tfp': tfpReport,
  '/v1/retention': retention,
  '/v1/outcomes': outcomes,
  '/v1/experiments': object({ data: list(experiment) }),
  '/v1/experiments/{id}': experimentResult,
  '/admin/v1/organisations/{id}/standing': standing,
}
type Documents = typeof documents
type Options<R extends keyof Documents> = Parameters<typeof get<R>>[1]

/** `get`, of a route whose answer has its shape here. `url` is what was asked, for `data-document`. */
export async function read<R extends keyof Documents>(route: R, options: Options<R> = {}): Promise<{ url: string; document: Of<Documents[R]> }> {
  const document = documents[route](await get(route, options), '') as Of<Documents[R]>
  return { url: urlOf(route, options?.path, options?.query), document }
}

const kinds = { organisations: organisation, projects: project, keys: key, plans: plan, prices: price }
type Kind = keyof typeof kinds
type RecordOf<K extends Kind> = Of<(typeof kinds)[K]>

/** All records of a kind that the caller may see. */
export async function records<K extends Kind>(kind: K, signal?: AbortSignal): Promise<RecordOf<K>[]> {
  const options = { path: { kind }, ...(signal ? { signal } : {}) }
  return object({ data: list(kinds[kind] as Shape<RecordOf<K>>) })(await get('/admin/v1/{kind}', options), '').data
}

/**
 * Reads a record that is to be changed. What the function that it returns makes of it is put, unless somebody else changed it
 * since: then it is refused (412).
 */
export function changing<K extends Kind>(kind: K, id: string): (next: (record: RecordOf<K>) => Partial<RecordOf<K>>) => Promise<void> {
  const asked = getTagged(urlOf('/admin/v1/{kind}/{id}', { kind, id }))
  // A failure is told when the change is sent.
  asked.catch(() => undefined)
  return async (next) => {
    const { body, tag } = await asked
    const record = (kinds[kind] as Shape<RecordOf<K>>)(body, '')
    await call('put', '/admin/v1/{kind}', { path: { kind }, body: next(record), headers: { 'if-match': tag } })
  }
}
