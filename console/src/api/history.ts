import type { RecentRates, Snapshot } from './types'

/** For how long rates are kept for the curves. */
export const KEPT_MS = 300_000
/** Rates over longer than this are those of a time in which nobody watched: they are nobody's curve. */
const WATCHED_SECONDS = 10

/** Least time between two instants. */
const SPACING_MS = 900

/** What the curves show of an instant; `null`: not known. */
export type Rates = { [Name in keyof RecentRates]: Name extends 'time_ms' ? number : number | null }

export function ratesOf(snapshot: Snapshot): Rates {
  const known = (rate: number | null | undefined): number | null => (snapshot.rate_seconds > WATCHED_SECONDS ? null : (rate ?? null))
  return {
    time_ms: snapshot.time_ms,
    output_tokens_per_second: known(snapshot.sample.output_tokens_per_second),
    input_tokens_per_second: known(snapshot.context.input_tokens_per_second),
    power_watts: known(snapshot.plant.power_watts),
    utilisation: known(snapshot.plant.utilisation),
  }
}

/** Adds rates to a history; what is older than five minutes is forgotten. */
export function remember(history: readonly Rates[], rates: Rates): Rates[] {
  const last = history.at(-1)
  if (last && rates.time_ms <= last.time_ms) return [...history]
  return [...history, rates].filter(({ time_ms }) => time_ms > rates.time_ms - KEPT_MS)
}

/** A history with what the plant remembers of its time in place of what was seen of it. */
export function recall(history: readonly Rates[], found: readonly Rates[]): Rates[] {
  const [first, last] = [found.at(0), found.at(-1)]
  if (!first || !last) return [...history]
  const later = history.filter((one) => one.time_ms > last.time_ms)
  // The second in which somebody began to watch may be in both.
  const known = found.filter((one) => (later[0]?.time_ms ?? Infinity) - one.time_ms >= SPACING_MS)
  const all = [...history.filter((one) => one.time_ms < first.time_ms), ...known, ...later]
  const newestMs = all.at(-1)?.time_ms ?? 0
  return all.filter(({ time_ms }) => time_ms > newestMs - KEPT_MS)
}

/** How long to wait before the n-th attempt to connect again (from 0), in milliseconds. */
export function backoff(attempt: number): number {
  return Math.min(1000 * 2 ** attempt, 15_000)
}
