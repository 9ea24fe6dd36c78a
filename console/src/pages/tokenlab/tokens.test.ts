import { describe, expect, it } from 'vitest'
import { foreign, visible } from '$lib/format/visible'
import { DEFAULTS, settingsOf } from './settings'
import { cut, hex, mostMerged, pairOf, piecesAfter, rest, wordOf } from './tokens'

const WORD = {
  start: ['d', 'a', 'r', 'k'],
  steps: [
    { rank: 7, at: 1, pieces: ['d', 'ar', 'k'] },
    { rank: 9, at: 1, pieces: ['d', 'ark'] },
    { rank: 20, at: 0, pieces: ['dark'] },
  ],
  tokens: [5],
}

describe('what is shown of tokens', () => {
  it('makes spaces and ends of lines seen', () => {
    expect([visible(' a\tb\n'), visible('')]).toEqual(['·a⇥b↵', '∅'])
    expect(hex([0xe9, 0, 255])).toBe('E9 00 FF')
  })
  it('cuts between characters', () => {
    expect([cut('abc', 3), cut('abc', 2), cut('a黑', 3), cut('a黑', 4)]).toEqual(['abc', 'ab', 'a', 'a黑'])
  })
  it('tells each merge', () => {
    expect(piecesAfter(WORD, 0)).toEqual(['d', 'a', 'r', 'k'])
    expect(piecesAfter(WORD, 2)).toEqual(['d', 'ark'])
    expect(pairOf(WORD, 1)).toMatchObject({ left: 'ar', right: 'k', order: { rank: 9 } })
    expect(pairOf(WORD, 3)).toBeNull()
    expect(wordOf({ ...WORD, start: ['c', '\\xc3', '\\xa9', '\\'] })).toBe('cé\\')
    expect(mostMerged([{ ...WORD, steps: [] }, WORD, WORD])).toBe(1)
  })
})

describe('settings', () => {
  it('are sent where they are set', () => {
    expect(settingsOf(DEFAULTS)).toEqual({})
    expect(settingsOf({ ...DEFAULTS, temperature: 0, top_k: 5 })).toEqual({ temperature: 0, top_k: 5 })
  })
  it('wait until they rest', async () => {
    const leave = new AbortController()
    const waiting = rest(10_000, leave.signal)
    leave.abort()
    await expect(waiting).rejects.toThrow('given up')
    await expect(rest(1, new AbortController().signal)).resolves.toBeUndefined()
  })
})

it('tells marks of writing direction by their numbers', () => {
  expect(foreign('u\u202eser \u2066x\u2069 שלום')).toBe('u⟨U+202E⟩ser ⟨U+2066⟩x⟨U+2069⟩ שלום')
})
