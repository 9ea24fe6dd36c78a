/**
 * Types of answers that the API's document still calls a plain object, in one place. They move to the API's schema (a Rust
 * type with `ToSchema`), and then to `types.ts`; nothing else may be typed by hand.
 */
import { call, get, getTagged, urlOf } from './client'

/** Decimal text, exact. */
export type Amount = string

/** Tokens by kind. */
export interface Quantities {
  in_uncached: number
  in_cached: number
  out_visible: number
  out_reasoning: number
}
/** Which plant sheets costs rest on; `example`: on figures that are nobody's. */
export interface Sheet {
  version: number | null
  versions: number[]
  example: boolean
}
interface Span {
  currency: string
  /** Unix seconds. */
  start_time: number
  end_time: number
}

export interface Tfp {
  denominator: string
  per_million: number | null
  low: number | null
  high: number | null
  level: number
  /** Why there is no interval. */
  reason: string | null
}
/** Value, tokens and what they brought, of one row of `/v1/tfp`. */
export interface Productivity {
  requests: number
  outcomes: number
  accepted_outcomes: number
  adoption_rate: number | null
  coverage: number | null
  matured: number | null
  price: Amount
  /** Of keys with the scope `plant` alone, as are the next two. */
  cost?: Amount
  costed?: number | null
  value_per_cost?: number | null
  value_per_price: number | null
  proxy: Amount
  tokens: { input: number; output: number; total: number; cached_input: number; reasoning: number }
  tokens_per_accepted_outcome: number | null
  value: { measured: Amount; contracted: Amount; estimated: Amount; total: Amount }
  tfp: Tfp
}
export interface TfpRow extends Productivity {
  day?: string
  week?: string
  month?: string
  task?: string
  prompt_version?: string
  model?: string
  organisation?: string
  project?: string
}
export interface TfpReport extends Span {
  data: TfpRow[]
  /** Outcomes that wait for their requests. */
  aside: number
}

export interface Statement extends Span {
  revenue: Amount
  cost: Amount
  attributed: Amount
  idle: Amount
  in_progress: Amount
  margin: Amount
  sold: { list: Amount; discount: Amount; credited: Amount; pooled_tokens: number; requests: number; quantities: Quantities }
  sources: { source: string; cost: Amount; permille: number; usual_permille: [number, number] | null }[]
  models: { model: string; revenue: Amount; attributed: Amount; costed_tokens: number; energy_uj: number; machine_ns: number; quantities: Quantities }[]
  per_million: { billed: Amount | null; attributed: Amount | null; full: Amount | null; marginal: Amount | null }
  uj_per_output_token: number | null
  energy_uj: number
  estimated_permille: number
  utilisation_permille: number | null
  length_ns: number
  goodput: { stated: number; met: number; share: number | null; requests_per_second: number | null }
  value: Productivity
  sheet: Sheet
}

export interface MarginRow {
  organisation?: string
  project?: string
  model?: string
  tag?: string
  day?: string
  requests: number
  tokens: Quantities
  billed: Amount
  attributed: Amount
  full: Amount | null
  margin: Amount
  wasted: Amount
  energy_uj: number
}
export interface Margins extends Span {
  data: MarginRow[]
  sheet: Sheet
}

export interface Tier {
  prompt_from: number
  volume_from: number
  input: string
  cached_input?: string
  output: string
  reasoning?: string
}
export interface Price {
  list: string
  model: string
  from: string
  tiers: Tier[]
}
export interface Plan {
  id: string
  price_list: string
  discount_permille: number
  calendar: { zone: string; anchor_day: number }
  pool?: { tokens: number; then?: string }
  limits: Limits
  models?: string[]
}
export type Limits = Partial<Record<'requests_per_minute' | 'input_tokens_per_minute' | 'output_tokens_per_minute' | 'total_tokens_per_minute' | 'concurrent_requests', number>>
export interface Budget {
  amount: Amount
  period: string
  soft?: boolean
  alert_percent?: number[]
}
export interface Bounds {
  limits: Limits
  budget?: Budget
}
export interface Organisation {
  id: string
  name: string
  plan: string
  /** How far the balance may go below zero; none: as far as it likes. */
  credit?: Amount
  suspended: boolean
  bounds: Bounds
}
export interface Project {
  id: string
  name: string
  organisation: string
  suspended: boolean
  bounds: Bounds
}
export interface Key {
  id: string
  name: string
  project: string
  prefix: string
  scopes: string[]
  revoked: boolean
  expires?: string
  bounds: Bounds
}
export interface OrganisationStanding {
  balance: Amount
  held: Amount
  pool_units_left: number | null
}
export interface Report extends Span {
  data: { organisation?: string; model?: string; quantities: Quantities; requests: number; list: Amount; revenue: Amount }[]
}

export interface Act {
  seq: number
  at_ms: number
  actor: string
  record: string
  before: unknown
  after: unknown
}
export interface Audit {
  data: Act[]
  has_more: boolean
  next_after: number | null
}
export interface Verification {
  entries: number
  accounts: number
  holds: number
  tallies: number
}
export interface Alert {
  at: string
  level: string
  id: string
  window: string
  percent: number
  amount: Amount
  spent: Amount
  delivery: { state: 'pending' | 'delivered' | 'given_up' }
}
export interface Alerts {
  currency: string
  webhook: boolean
  data: Alert[]
}

export interface Retention {
  level: number
  partial: string
  weeks: number
  data: { week: string; units: number; ages: { age: number; share: number; units: number; low: number; high: number }[] }[]
}
export interface Outcome {
  entry: number
  id: string
  kind: string
  organisation: string
  project: string
  value: Amount | null
  currency: string
  valuation: string
  accepted: boolean
  revision: number
  /** Unix seconds. */
  told_at: number
}
export interface Outcomes {
  data: Outcome[]
  aside: number
  has_more?: boolean
}
interface Estimate {
  estimate: number
  interval: { low: number; high: number; level: number } | null
}
export interface ExperimentRecord {
  id: string
  organisation: string
  unit: string
  metric: string
  state: string
  arms: { name: string; weight: number; held_out?: boolean; model?: string; prompt_version?: string }[]
  winner?: string
}
export interface ExperimentResult {
  experiment: ExperimentRecord
  currency: string
  control: string
  metric_unit: string
  arms: {
    name: string
    weight: number
    held_out: boolean
    units: number
    compared_units: number
    requests: number
    tokens: { total: number }
    value: Amount
    accepted_outcomes: number
    metric: number | null
  }[]
  comparisons: { arm: string; decided: boolean; metric: number | null; difference: Estimate | null; lift: Estimate | null; reason: string | null }[]
  incremental: { per_tokens: number; tfp: { estimate: number; interval: { low: number; high: number; level: number } | null; reason: string | null } } | null
  maturity: { compared: number; units: number; waiting: number; window_days: number; remark: string | null }
  sample_ratio: { mismatch: boolean; p_value: number } | null
}

/** What each of these routes answers. */
interface Documents {
  '/admin/v1/statement': Statement
  '/v1/margins': Margins
  '/admin/v1/report': Report
  '/admin/v1/verify': Verification
  '/admin/v1/audit': Audit
  '/admin/v1/alerts': Alerts
  '/v1/tfp': TfpReport
  '/v1/retention': Retention
  '/v1/outcomes': Outcomes
  '/v1/experiments': { data: ExperimentRecord[] }
  '/v1/experiments/{id}': ExperimentResult
  '/admin/v1/organisations/{id}/standing': OrganisationStanding
}
type Options<R extends keyof Documents> = Parameters<typeof get<R>>[1]

/** `get`, of a route whose answer is typed here. `url` is what was asked, for `data-document`. */
export async function read<R extends keyof Documents>(route: R, options: Options<R> = {}): Promise<{ url: string; document: Documents[R] }> {
  const document = (await get(route, options)) as Documents[R]
  return { url: urlOf(route, options?.path, options?.query), document }
}

interface Kinds {
  organisations: Organisation
  projects: Project
  keys: Key
  plans: Plan
  prices: Price
}

/** All records of a kind that the caller may see. */
export async function records<K extends keyof Kinds>(kind: K, signal?: AbortSignal): Promise<Kinds[K][]> {
  const options = { path: { kind }, ...(signal ? { signal } : {}) }
  return ((await get('/admin/v1/{kind}', options)) as { data: Kinds[K][] }).data
}

/**
 * Reads a record that is to be changed. What the function that it returns makes of it is put, unless somebody else changed it
 * since: then it is refused (412).
 */
export function changing<K extends keyof Kinds>(kind: K, id: string): (next: (record: Kinds[K]) => Partial<Kinds[K]>) => Promise<void> {
  const asked = getTagged(urlOf('/admin/v1/{kind}/{id}', { kind, id }))
  // A failure is told when the change is sent.
  asked.catch(() => undefined)
  return async (next) => {
    const { body, tag } = await asked
    await call('put', '/admin/v1/{kind}', { path: { kind }, body: next(body as Kinds[K]), headers: { 'if-match': tag } })
  }
}
