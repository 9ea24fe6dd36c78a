import { expect, it } from 'vitest'
import { isMoving, offeredOf } from './offered'

const model = {
  adapters: [{ name: 'legal', state: 'draining', reason: null, weight_bytes: 7 }], aliases: ['small'], context_len: 8192, idle_seconds: 12,
  kv_bytes: 5, name: 'm', pinned: true, reason: null, running: 1, state: 'loaded', waiting: 2, weight_bytes: 96,
}

it('reads the models, and the memory they share', () => {
  const { models, memory } = offeredOf({ data: [model], memory: { taken: 3, limit: 10 } })
  expect(memory).toEqual({ taken: 3, limit: 10 })
  expect(models).toEqual([
    {
      name: 'm', state: 'loaded', reason: null, weightBytes: 96, aliases: ['small'], isPinned: true, contextLen: 8192, kvBytes: 5, running: 1,
      waiting: 2, idleSeconds: 12, adapters: [{ name: 'legal', state: 'draining', reason: null, weightBytes: 7 }],
    },
  ])
})

it('takes a state it does not know as not in memory', () => {
  expect(offeredOf({ data: [{ name: 'm', state: 'new' }] }).models[0]?.state).toBe('unloaded')
  expect(offeredOf('nothing').models).toEqual([])
})

it('knows when to look again soon', () => {
  expect(isMoving(offeredOf({ data: [model] }).models)).toBe(true)
  expect(isMoving(offeredOf({ data: [{ ...model, adapters: [] }] }).models)).toBe(false)
  expect(isMoving(offeredOf({ data: [{ ...model, adapters: [], state: 'loading' }] }).models)).toBe(true)
})
