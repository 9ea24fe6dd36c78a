import { expect, it } from 'vitest'
import type { Rates } from '$lib/api/history'
import type { HistoryFigures, PlantHistory } from '$lib/api/types'
import { liveTrends, pastTrends } from './trends'

it('keeps gaps as gaps and nothing as nothing', () => {
  const percentiles = { count: 0, p50_seconds: null, p95_seconds: null, p99_seconds: null }
  const idle = { output_tokens_per_second: 0, power_watts: 31, cost_per_million_tokens: null, ttft: percentiles } as unknown as HistoryFigures
  const busy = { ...idle, output_tokens_per_second: 8, cost_per_million_tokens: '1.25', ttft: { ...percentiles, p95_seconds: 0.5 } } as HistoryFigures
  const data = [null, idle, busy].map((figures, at) => ({ time: 60 * at, seconds: figures ? 60 : 0, figures }))
  const found = pastTrends({ data } as unknown as PlantHistory)
  expect(found.times).toEqual([0, 60, 120])
  expect(found.output).toEqual([null, 0, 8])
  expect(found.cost).toEqual([null, null, 1.25])
  expect(found.ttft.p95).toEqual([null, null, 0.5])
})

it('draws nothing over a time of which nothing is known', () => {
  const at = (seconds: number): Rates => ({ time_ms: seconds * 1000, output_tokens_per_second: 5, input_tokens_per_second: 2, power_watts: 9, utilisation: 0.5 })
  const found = liveTrends([at(1), at(100), at(101)])
  expect(found.times).toEqual([1, 100, 101])
  expect([found.output, found.power]).toEqual([
    [5, null, 5],
    [9, null, 9],
  ])
})
