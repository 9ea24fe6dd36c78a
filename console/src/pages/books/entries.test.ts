import { expect, it } from 'vitest'
import type { LedgerEntry } from '$lib/api/types'
import { askedEntries, filtersOf, subjectOf, sumsOf } from './entries'

const leg = (account: string, unit: string, amount: string) => ({ account, account_kind: 'contra', unit, amount })
const entry = (legs: ReturnType<typeof leg>[], document: LedgerEntry['document'] = null): LedgerEntry => ({ seq: 1, writer: 0, at_ms: 0, kind: 'charge', id: null, legs, document })

it('adds postings up by unit, exactly', () => {
  const sums = sumsOf(entry([leg('a', 'money', '-0.000000001'), leg('b', 'money', '0.000000001'), leg('a', 'tokens', '7'), leg('c', 'tokens', '-6')]))
  expect(sums).toEqual([
    { unit: 'money', sum: '0.00' },
    { unit: 'tokens', sum: '1.00' },
  ])
  expect(sumsOf(entry([leg('a', 'money', 'much'), leg('b', 'money', '1')]))).toEqual([{ unit: 'money', sum: null }])
})

it('says what an entry is about', () => {
  expect(subjectOf(entry([leg('plant/revenue', 'money', '1'), leg('org/acme/money', 'money', '-1')]))).toBe('org/acme/money')
  expect(subjectOf(entry([], { key: 'k1', version: 1, actor: 'ops' }))).toBe('k1')
  expect(subjectOf(entry([]))).toBe('')
})

it('reads what an address asks for', () => {
  const asked = (text: string): object => askedEntries(filtersOf(new URLSearchParams(text)), 25)
  const second = (day: number): number => Date.UTC(2026, 10, day) / 1000
  expect(asked('kind=charge&account=a&from=2026-11-01&to=2026-11-02')).toEqual({ limit: 25, kind: 'charge', account: 'a', start_time: second(1), end_time: second(3) })
  expect(asked('kind=much&to=2026-11-02&from=2026-11-31&days=7')).toEqual({ limit: 25, end_time: second(3) })
  expect(asked('request=chatcmpl-1&kind=charge&account=a&from=2026-11-01')).toEqual({ request: 'chatcmpl-1' })
})
