import { expect, it } from 'vitest'
import { isSame } from './same'

it('compares by content', () => {
  expect(isSame({ a: 1, b: { c: [1, 2], d: null } }, { b: { d: null, c: [1, 2] }, a: 1 })).toBe(true)
  expect(isSame({ a: 1, b: undefined }, { a: 1 })).toBe(true)
  for (const [one, other] of [[{ a: 1 }, { a: '1' }], [{ a: 1 }, {}], [[1, 2], [2, 1]], [[1], [1, undefined]], [[], {}], [null, {}], [{ a: null }, {}], [0, false]]) {
    expect(isSame(one, other), JSON.stringify([one, other])).toBe(false)
    expect(isSame(other, one), JSON.stringify([other, one])).toBe(false)
  }
})
