/** Which requests an address asks for. */

export const OUTCOMES = ['ok', 'cancelled', 'failed'] as const
/** Seconds that a request took at least. */
export const LEAST = ['1', '5', '10', '30', '60'] as const
export const PERIODS = ['hour', 'day'] as const
const SECONDS = { hour: 3600, day: 86_400 } as const

/** Names of filters in the address that the API takes as they are. */
const PLAIN = ['organisation', 'project', 'key', 'model', 'text'] as const
export const FILTERS = [...PLAIN, 'outcome', 'least', 'received'] as const

export interface Asked {
  organisation?: string
  project?: string
  key?: string
  model?: string
  text?: string
  outcome?: string
  min_e2e_ms?: number
  start_time?: number
}

/** The API's parameters; what an address has that is no filter is left out. */
export function askedBy(query: URLSearchParams, nowMs: number): Asked {
  const asked: Asked = {}
  for (const name of PLAIN) {
    const value = query.get(name)?.trim()
    if (value) asked[name] = value
  }
  const outcome = OUTCOMES.find((one) => one === query.get('outcome'))
  if (outcome) asked.outcome = outcome
  const least = LEAST.find((one) => one === query.get('least'))
  if (least) asked.min_e2e_ms = Number(least) * 1000
  const period = PERIODS.find((one) => one === query.get('received'))
  if (period) asked.start_time = Math.floor(nowMs / 1000) - SECONDS[period]
  return asked
}

/** What comes first is chosen; what else there is follows, each once and in order. */
export function choices(chosen: string | null, seen: Iterable<string>): string[] {
  const all = new Set([...(chosen ? [chosen] : []), ...seen])
  all.delete('')
  return [...all].sort((a, b) => a.localeCompare(b))
}
