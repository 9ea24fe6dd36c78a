import { describe, expect, it } from 'vitest'
import { EventReader } from './events'

describe('events', () => {
  const text = ': hello\n\ndata: {"a":"你好"}\n\nevent: x\ndata: one\r\ndata:two\r\n\r\ndata: [DONE]\n\n'
  const expected = ['{"a":"你好"}', 'one\ntwo', '[DONE]']

  it('come whole, however the text is cut', () => {
    for (let size = 1; size <= text.length; size += 1) {
      const reader = new EventReader()
      const found: string[] = []
      for (let from = 0; from < text.length; from += size) found.push(...reader.read(text.slice(from, from + size)))
      expect(found, `in pieces of ${size}`).toEqual(expected)
    }
  })

  it('keep what has no end for later, but not without bound', () => {
    const reader = new EventReader()
    expect(reader.read('data: half')).toEqual([])
    expect(reader.read('\n\n')).toEqual(['half'])
    expect(() => reader.read('x'.repeat(4_000_001))).toThrow('without an end')
  })
})
