import { expect, it } from 'vitest'
import { isMoving, offeredOf } from './offered'

const model = {
  adapters: [{ name: 'legal', state: 'draining', reason: null, weight_bytes: 7 }], aliases: ['small'], context_len: 8192, idle_seconds: 12, must_fetch: true, fetching: { bytes: 3, total: 9 },
  kv_bytes: 5, name: 'm', pinned: true, reason: null, running: 1, state: 'loaded', waiting: 2, weight_bytes: 96,
}

it('reads a model', () => {
  expect(offeredOf(model)).toEqual({
    name: 'm', state: 'loaded', reason: null, weightBytes: 96, aliases: ['small'], mustFetch: true, fetching: { bytes: 3, total: 9 }, isPinned: true, contextLen: 8192, kvBytes: 5, running: 1,
    waiting: 2, idleSeconds: 12, adapters: [{ name: 'legal', state: 'draining', reason: null, weightBytes: 7 }],
  })
})

it('takes a state it does not know as not in memory', () => {
  expect(offeredOf({ ...model, state: 'new' }).state).toBe('unloaded')
})

it('knows when to look again soon', () => {
  const moves = (one: typeof model): boolean => isMoving([offeredOf(one)])
  expect(moves(model)).toBe(true)
  expect(moves({ ...model, adapters: [] })).toBe(false)
  expect(moves({ ...model, adapters: [], state: 'loading' })).toBe(true)
})
