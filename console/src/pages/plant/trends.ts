import type { HistoryFigures, PlantHistory, Snapshot } from '$lib/api/types'

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

/** Rates over longer than this are those of a time in which nobody watched: a gap. */
const WATCHED_SECONDS = 10

export function liveTrends(history: readonly Snapshot[]): Trends {
  const of = (value: (one: Snapshot) => number | null | undefined): Values =>
    history.map((one) => (one.rate_seconds > WATCHED_SECONDS ? null : (value(one) ?? null)))
  return {
    times: history.map((one) => one.time_ms / 1000),
    output: of((one) => one.sample.output_tokens_per_second),
    input: of((one) => one.context.input_tokens_per_second),
    power: of((one) => one.plant.power_watts),
    utilisation: of((one) => one.plant.utilisation),
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
