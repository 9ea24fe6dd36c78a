/** Spans of whole days, as reports take them. */
export const SPANS = ['1', '7', '30', '90'] as const
type Days = (typeof SPANS)[number]

const DAY_S = 86_400

/** The days that an address asks for; 30 unless it names one of the spans. */
export function daysOf(text: string | null): Days {
  return SPANS.find((span) => span === text) ?? '30'
}

/** Where a span of whole days (UTC) that ends with the present one begins, in Unix seconds. */
export function startOf(days: Days, nowMs: number): number {
  const today = Math.floor(nowMs / 1000 / DAY_S) * DAY_S
  return today - (Number(days) - 1) * DAY_S
}
