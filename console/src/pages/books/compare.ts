import type { ComparedChange } from '$lib/api/types'
import { dateOf, namedPeriod, periodBefore, startOf, type Period } from '$lib/components/span'

export const MEASURES = ['total_margin', 'total_cost', 'margin_per_million', 'cost_per_million'] as const
export type Measure = (typeof MEASURES)[number]
export const PARTS = ['volume', 'mix', 'price', 'efficiency', 'utilisation', 'input_price'] as const

/** Measures of cost, of which more is worse. */
export const isCost = (measure: Measure): boolean => measure === 'total_cost' || measure === 'cost_per_million'

/** A second of UTC as the browser's choice of times has it; `null`: it is none. */
export function timeOf(text: string): number | null {
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?$/.test(text)) return null
  const ms = Date.parse(`${text}Z`)
  return Number.isNaN(ms) || ms < 0 ? null : ms / 1000
}

/** The text of a second for the browser's choice of times. */
export function timeText(second: number): string {
  return new Date(second * 1000).toISOString().slice(0, 19)
}

/** The two periods that an address asks for, as the API takes them. */
export interface Asked {
  start_time: number
  end_time?: number
  compare_start_time: number
  compare_end_time: number
  exact?: boolean
}

/**
 * `than`: nothing (as many days before), `dates` (`cfrom` to `cto`) or `times` (both periods to the second: `since` to `until`,
 * and `csince` to `cuntil`). What is not there is as many days before.
 */
export function askedOf(query: URLSearchParams, later: Period, nowMs: number): Asked {
  const at = (name: string): number | null => timeOf(query.get(name) ?? '')
  const [since, until, csince, cuntil] = [at('since'), at('until'), at('csince'), at('cuntil')]
  if (query.get('than') === 'times' && since !== null && until !== null && csince !== null && cuntil !== null) {
    return { start_time: since, end_time: until, compare_start_time: csince, compare_end_time: cuntil, exact: true }
  }
  const named = query.get('than') === 'dates' ? namedPeriod(query.get('cfrom') ?? '', query.get('cto') ?? '') : null
  const { start_time, end_time } = named ?? periodBefore(later, nowMs)
  return { ...later, compare_start_time: start_time, compare_end_time: end_time }
}

/** The period that ends before it begins, or when it does; `null`: none. */
export function wrongOrder({ start_time, end_time, compare_start_time, compare_end_time }: Asked, nowMs: number): 'later' | 'earlier' | null {
  if ((end_time ?? nowMs / 1000) <= start_time) return 'later'
  return compare_end_time <= compare_start_time ? 'earlier' : null
}

/** The days of a period for the choice of dates. */
export function datesOf(period: Required<Period>): { from: string; to: string } {
  return { from: dateOf(period.start_time), to: dateOf(Math.max(period.start_time, period.end_time - 1)) }
}

/** A step of the bridge: where it begins and ends, as numbers for drawing. */
export interface Step {
  name: 'from' | 'to' | (typeof PARTS)[number]
  /** Exact decimal text. */
  amount: string
  low: number
  high: number
  /** What it does to the measure. */
  sign: -1 | 0 | 1
  isTotal: boolean
}

/** From the earlier period over each part to the later one; parts of 0 that the measure cannot have are left out. */
export function bridge(change: ComparedChange, measure: Measure): Step[] {
  const total = (name: 'from' | 'to'): Step => {
    const value = Number(change[name])
    return { name, amount: change[name], low: Math.min(0, value), high: Math.max(0, value), sign: 0, isTotal: true }
  }
  let level = Number(change.from)
  const without = [...(isCost(measure) ? ['price'] : []), ...(measure.endsWith('per_million') ? ['volume'] : [])]
  const steps = PARTS.filter((name) => !without.includes(name)).map((name): Step => {
    const amount = change.parts[name]
    const next = level + Number(amount)
    const step: Step = { name, amount, low: Math.min(level, next), high: Math.max(level, next), sign: Math.sign(next - level) as -1 | 0 | 1, isTotal: false }
    level = next
    return step
  })
  return [total('from'), ...steps, total('to')]
}

/**
 * The span of days that can be compared with as many days before it: the longest of which both sold something. `null`: there is
 * none. `days`: those on which something was sold, as `2026-11-27`.
 */
export function daysToCompare(days: readonly string[], nowMs: number): '30' | '7' | '1' | null {
  const sold = days.map((day) => Date.parse(day) / 1000)
  for (const span of ['30', '7', '1'] as const) {
    const later = startOf(span, nowMs)
    const { start_time } = periodBefore({ start_time: later }, nowMs)
    if (sold.some((day) => day >= later) && sold.some((day) => day >= start_time && day < later)) return span
  }
  return null
}
