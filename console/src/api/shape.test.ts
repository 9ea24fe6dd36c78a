import { expect, it } from 'vitest'
import { ApiError } from './errors'
import { anything, flag, list, nullable, number, object, pair, text, word } from './shape'

const shape = object(
  { name: text, size: nullable(number), on: flag, parts: list(object({ x: number })), state: word('up', 'down'), range: pair(number), any: anything },
  { note: text },
)
const right = { name: 'a', size: null, on: false, parts: [{ x: 1 }], state: 'up', range: [1, 2], any: {}, more: 'kept' }

it('takes a document as it is', () => {
  expect(shape(right, '')).toBe(right)
  const noted = { ...right, size: 5, note: 'b' }
  expect(shape(noted, '')).toBe(noted)
})

it('refuses what is of another kind, and says where', () => {
  for (const [wrong, message] of [
    [{ name: 5 }, "the answer's name should be a text"],
    [{ name: undefined }, 'name should be a text'],
    [{ size: '5' }, 'size should be a number'],
    [{ on: null }, 'on should be true or false'],
    [{ parts: {} }, 'parts should be a list'],
    [{ parts: [{ x: 1 }, 7] }, 'parts[1] should be an object'],
    [{ parts: [{ x: 1 }, {}] }, 'parts[1].x should be a number'],
    [{ state: 'new' }, 'state should be one of up, down'],
    [{ range: [1] }, 'range should be a list of two'],
    [{ note: null }, 'note should be a text'],
  ] as const) {
    expect(() => shape({ ...right, ...wrong }, ''), message).toThrow(message)
  }
  for (const other of [null, 'text', []]) expect(() => shape(other, '')).toThrow("the answer's document should be an object")
})

it('refuses as a page can show it, not as a server that is gone', () => {
  try {
    text(5, 'name')
    expect.unreachable()
  } catch (cause) {
    expect(cause).toBeInstanceOf(ApiError)
    expect((cause as ApiError).isUnreachable).toBe(false)
  }
})
