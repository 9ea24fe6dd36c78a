import { describe, expect, it } from 'vitest'
import type { RequestList, RequestSummary } from '$lib/api/types'
import { askedBy, choices } from './asked'
import { begun, MOST, withNews, withOlder } from './feed'
import { lifeOf, nearest } from './life'

it('reads filters from an address, and nothing else', () => {
  const query = new URLSearchParams('text= a b &outcome=failed&least=5&received=hour&model=m&color=red&key=')
  expect(askedBy(query, 7_200_000)).toEqual({ text: 'a b', outcome: 'failed', min_e2e_ms: 5000, start_time: 3600, model: 'm' })
  expect(askedBy(new URLSearchParams('outcome=good&least=2&received=year'), 0)).toEqual({})
  expect(choices('z', ['b', 'a', '', 'b'])).toEqual(['a', 'b', 'z'])
})

describe('a feed', () => {
  const rows = (from: number, count: number): RequestSummary[] => Array.from({ length: count }, (_, i) => ({ number: from - i }) as RequestSummary)
  const list = (data: RequestSummary[], next_before: number | null = null, has_more = false): RequestList => ({
    object: 'list', data, has_more, newest: data[0]?.number ?? 0, next_before, trouble: null,
  })

  it('takes what is new and what is older', () => {
    const first = begun(list(rows(10, 5), 6, true))
    const more = withNews(first, list(rows(12, 2)))
    expect(more?.rows.map((row) => row.number)).toEqual([12, 11, 10, 9, 8, 7, 6])
    const all = withOlder(more ?? first, list(rows(5, 5)))
    expect([all.rows.length, all.newest, all.before]).toEqual([12, 12, null])
    expect(withNews(first, list([]))).toEqual(first)
    expect(withNews(first, list(rows(900, 500), 401, true))).toBeNull()
  })

  it('is bounded', () => {
    const full = withOlder(begun(list(rows(30_000, 500), 29_501, true)), list(rows(29_500, MOST), 19_501, true))
    expect([full.rows.length, full.before]).toEqual([MOST, null])
    expect(withNews(full, list(rows(30_003, 3)))?.rows.length).toBe(MOST)
  })
})

it('puts a life in order and finds what is near', () => {
  const life = lifeOf(
    {
      prefill: [{ start_ns: 1e9, length_ns: 5e8, tokens: 256 }],
      more_prefill: 0,
      tokens: [{ at_ns: 2e9, candidate: 0 }, { at_ns: 2.1e9, candidate: 1 }, { at_ns: 3e9, candidate: 0 }],
      more_tokens: 0,
      preemptions_ns: [2.5e9],
    },
    1e9,
  )
  expect(life.map((one) => one.kind)).toEqual(['queue', 'prefill', 'token', 'token', 'preempted', 'token'])
  expect(life[5]).toEqual({ kind: 'token', at: 3, candidate: 0, number: 2, gap: 1 })
  expect([0.2, 1.4, 1.95, 2.45, 99].map((at) => nearest(life, at))).toEqual([0, 1, 2, 4, 5])
})
