/** Spans of whole days, as reports take them. */
export const SPANS = ['1', '7', '30', '90'] as const
type Days = (typeof SPANS)[number]

const DAY_S = 86_400

/** What an address asks for: days that end with the present one, or days by name (UTC), the last one included. */
export type Span = { days: Days } | { from: string; to: string }

/** As the API takes it, in Unix seconds. */
export interface Period {
  start_time: number
  end_time?: number
}

/** The days that an address asks for; 30 unless it names one of the spans. */
export function daysOf(text: string | null): Days {
  return SPANS.find((span) => span === text) ?? '30'
}

/** Where a span of whole days (UTC) that ends with the present one begins, in Unix seconds. */
export function startOf(days: Days, nowMs: number): number {
  return todayOf(nowMs) - (Number(days) - 1) * DAY_S
}

/** When a day (`2026-11-27`, UTC) begins, in Unix seconds; `null`: it is none. */
export function secondOf(day: string): number | null {
  if (!/^\d{4}-\d\d-\d\d$/.test(day)) return null
  const ms = Date.parse(`${day}T00:00:00Z`)
  // Of the 30th of February the 2nd of March would be taken.
  return Number.isNaN(ms) || ms < 0 || dateOf(ms / 1000) !== day ? null : ms / 1000
}

/** The years that a person can mean; whoever types one digit by digit passes through others. */
export const [FIRST_YEAR, LAST_YEAR] = [2000, 9999]

/** Whether a day, or a time, that was typed is whole. */
export function isWhole(text: string): boolean {
  const found = /^(\d{4})-\d\d-\d\d(T\d\d:\d\d(:\d\d)?)?$/.exec(text)
  return found !== null && Number(found[1]) >= FIRST_YEAR && Number(found[1]) <= LAST_YEAR
}

/** The day (UTC) of a Unix second. */
export function dateOf(second: number): string {
  return new Date(second * 1000).toISOString().slice(0, 10)
}

/** Named days where an address has both of them, else a span that ends today. */
export function spanOf(query: URLSearchParams): Span {
  const [from, to] = [query.get('from') ?? '', query.get('to') ?? '']
  return namedPeriod(from, to) ? { from, to } : { days: daysOf(query.get('days')) }
}

/** The period of named days, the last one included; `null`: one of them is none. */
export function namedPeriod(from: string, to: string): Required<Period> | null {
  const [first, last] = [secondOf(from), secondOf(to)]
  return first === null || last === null ? null : { start_time: first, end_time: last + DAY_S }
}

/** The period of days of which each may be left open, the last one included; what is none leaves it open, too. */
export function openPeriod(from: string, to: string): Partial<Required<Period>> {
  const [first, last] = [secondOf(from), secondOf(to)]
  return { ...(first === null ? {} : { start_time: first }), ...(last === null ? {} : { end_time: last + DAY_S }) }
}

/** The period of a span. What cannot be (an end before the start) is the API's to refuse. */
export function periodOf(span: Span, nowMs: number): Period {
  if ('days' in span) return { start_time: startOf(span.days, nowMs) }
  return namedPeriod(span.from, span.to) ?? { start_time: 0 }
}

/** The period of as many days that ends where another begins. */
export function periodBefore(period: Period, nowMs: number): Required<Period> {
  const length = (period.end_time ?? todayOf(nowMs) + DAY_S) - period.start_time
  return { start_time: Math.max(0, period.start_time - length), end_time: period.start_time }
}

/** The parameters of an address that say a span. */
export function wordsOf(query: URLSearchParams): Record<'days' | 'from' | 'to', string | undefined> {
  return { days: query.get('days') ?? undefined, from: query.get('from') ?? undefined, to: query.get('to') ?? undefined }
}

function todayOf(nowMs: number): number {
  return Math.floor(nowMs / 1000 / DAY_S) * DAY_S
}
