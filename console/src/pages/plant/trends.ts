import type { Rates } from '$lib/api/history'
import type { HistoryFigures, PlantHistory } from '$lib/api/types'

type Values = readonly (number | null)[]

/** What the curves show, one value for each instant; `null` is a gap. */
export interface Trends {
  /** In seconds since the epoch. */
  times: readonly number[]
  output: Values
  input: Values
  power: Values
  utilisation: Values
}

/** Between instants that are further apart than this nothing is known: a gap. */
const GAP_MS = 10_000

export function liveTrends(history: readonly Rates[]): Trends {
  const isGap = (index: number): boolean => (history[index]?.time_ms ?? 0) - (history[index - 1]?.time_ms ?? Infinity) > GAP_MS
  const of = (name: Exclude<keyof Rates, 'time_ms'>): Values => history.map((one, index) => (isGap(index) ? null : one[name]))
  return {
    times: history.map((one) => one.time_ms / 1000),
    output: of('output_tokens_per_second'),
    input: of('input_tokens_per_second'),
    power: of('power_watts'),
    utilisation: of('utilisation'),
  }
}

/** The same over a longer time, with what takes minutes to tell. */
export interface PastTrends extends Trends {
  /** Cost of a million tokens; a number only to be drawn. */
  cost: Values
  ttft: { p50: Values; p95: Values; p99: Values }
}

export function pastTrends(history: PlantHistory): PastTrends {
  const of = (value: (figures: HistoryFigures) => number | string | null | undefined): Values =>
    history.data.map(({ figures }) => {
      const found = figures ? value(figures) : null
      return found === null || found === undefined ? null : Number(found)
    })
  return {
    times: history.data.map((point) => point.time),
    output: of((one) => one.output_tokens_per_second),
    input: of((one) => one.input_tokens_per_second),
    power: of((one) => one.power_watts),
    utilisation: of((one) => one.utilisation),
    cost: of((one) => one.cost_per_million_tokens),
    ttft: { p50: of((one) => one.ttft.p50_seconds), p95: of((one) => one.ttft.p95_seconds), p99: of((one) => one.ttft.p99_seconds) },
  }
}
