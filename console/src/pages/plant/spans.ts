/** What the curves are of: the last minutes live, or a longer time from the minutes that are kept. */
export const SPANS = ['5m', '1h', '24h', '7d', '30d', '90d'] as const
export type SpanName = (typeof SPANS)[number]
export type PastName = Exclude<SpanName, '5m'>

const HOUR_S = 3600
const DAY_S = 24 * HOUR_S

/** Length and step of each, in seconds: a few hundred points. */
const PAST: Record<PastName, { length: number; step: number }> = {
  '1h': { length: HOUR_S, step: 60 },
  '24h': { length: DAY_S, step: 300 },
  '7d': { length: 7 * DAY_S, step: 1800 },
  '30d': { length: 30 * DAY_S, step: 2 * HOUR_S },
  '90d': { length: 90 * DAY_S, step: 6 * HOUR_S },
}

/** The span that an address asks for; live unless it names another. */
export function spanOf(text: string | null): SpanName {
  return SPANS.find((name) => name === text) ?? '5m'
}

/** The question for a span that ends now. The server keeps no more than 90 days, to the second. */
export function questionOf(name: PastName, nowMs: number): { start_time: number; end_time: number; step: number } {
  const { length, step } = PAST[name]
  const end = Math.floor(nowMs / 1000)
  return { start_time: end - length, end_time: end, step }
}

/** How long until the next minute has been written, in milliseconds. */
export function untilWritten(nowMs: number): number {
  return 60_000 - (nowMs % 60_000) + 2_000
}
