import { describe, expect, it } from 'vitest'
import { urlOf } from './client'
import { ApiError, problemOf } from './errors'
import { backoff, KEPT_MS, ratesOf, recall, remember, type Rates } from './history'
import type { Snapshot } from './types'

describe('addresses', () => {
  it('fills paths and leaves empty parameters out', () => {
    expect(urlOf('/admin/v1/keys/{id}', { id: 'a/b' })).toBe('/admin/v1/keys/a%2Fb')
    expect(urlOf('/v1/costs', {}, { group_by: 'day,model', start_time: undefined, end_time: 5 })).toBe('/v1/costs?group_by=day%2Cmodel&end_time=5')
  })
})

describe('refusals', () => {
  it('reads what the server says, and takes anything from a proxy', () => {
    const body = { error: { message: 'no', type: 'x', param: 'model', code: 'gone' } }
    expect(problemOf(410, body)).toEqual({ status: 410, message: 'no', param: 'model', code: 'gone' })
    for (const other of [null, 'Bad Gateway', [], { error: 'text' }, { error: { message: 5 } }]) {
      expect(problemOf(502, other)).toEqual({ status: 502, message: 'HTTP 502', param: null, code: null })
    }
  })
})

describe('being shut out', () => {
  const told = (status: number, code: string | null): boolean => new ApiError({ status, code, message: '', param: null }).isShutOut

  it('is an unknown key or a suspended owner, not a missing right or a lost server', () => {
    expect([told(401, 'invalid_api_key'), told(403, 'suspended')]).toEqual([true, true])
    expect([told(403, 'not_allowed'), told(0, 'unreachable'), told(503, null)]).toEqual([false, false, false])
  })
})

describe('history', () => {
  const at = (time_ms: number, rate = 1): Rates => ({ time_ms, output_tokens_per_second: rate, input_tokens_per_second: 0, power_watts: null, utilisation: 0 })

  it('keeps five minutes', () => {
    let history: Rates[] = []
    for (let second = 0; second < KEPT_MS / 1000 + 20; second += 1) history = remember(history, at(second * 1000))
    expect([history.length, history[0]?.time_ms]).toEqual([KEPT_MS / 1000, 20_000])
    // Also when nobody watched in between.
    expect(remember(history, at(KEPT_MS + 200_000)).map(({ time_ms }) => time_ms)[0]).toBe(201_000)
  })

  it('takes nothing that is older than what it has', () => {
    expect(remember([at(5)], at(5))).toHaveLength(1)
    expect(remember([at(5)], at(4))).toHaveLength(1)
  })

  it('has what the plant remembers in place of what was seen meanwhile', () => {
    const told = (history: Rates[]): unknown => history.map((one) => [one.time_ms, one.output_tokens_per_second])
    const seen = [at(1000), at(2000), at(5000)]
    expect(told(recall(seen, [at(1900, 7), at(2900, 7), at(3900, 7)]))).toEqual([[1000, 1], [1900, 7], [2900, 7], [3900, 7], [5000, 1]])
    expect(told(recall([at(2100)], [at(1000, 7), at(2000, 7)]))).toEqual([[1000, 7], [2100, 1]])
    expect(recall(seen, [])).toEqual(seen)
    expect(recall([], seen)).toEqual(seen)
    expect(told(recall([at(1000)], [at(KEPT_MS + 2000)]))).toEqual([[KEPT_MS + 2000, 1]])
  })

  it('takes rates over a time in which nobody watched for nothing', () => {
    const of = (rate_seconds: number): unknown =>
      ratesOf({ time_ms: 1, rate_seconds, sample: { output_tokens_per_second: 5 }, context: {}, plant: { power_watts: 9 } } as Snapshot)
    expect(of(4)).toEqual({ time_ms: 1, output_tokens_per_second: 5, input_tokens_per_second: null, power_watts: 9, utilisation: null })
    expect(of(99)).toEqual({ time_ms: 1, output_tokens_per_second: null, input_tokens_per_second: null, power_watts: null, utilisation: null })
  })

  it('waits longer each time, and not for ever', () => {
    expect([0, 1, 2, 10].map(backoff)).toEqual([1000, 2000, 4000, 15_000])
  })
})
