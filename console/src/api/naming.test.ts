import { expect, it } from 'vitest'
import { isId, isPlain } from './naming'

it('takes ids as the plant does', () => {
  const good = ['a', 'web-1', 'a.b_c', '0', 'x'.repeat(64), ' web ']
  const bad = ['', ' ', 'Web', 'web 1', 'über', 'a/b', 'x'.repeat(65)]
  expect(good.map(isId)).toEqual(good.map(() => true))
  expect(bad.map(isId)).toEqual(bad.map(() => false))
})

it('counts the bytes of a name, not its letters', () => {
  expect([isPlain('Acme'), isPlain('x'.repeat(200)), isPlain('字'.repeat(66))]).toEqual([true, true, true])
  expect([isPlain(' '), isPlain('x'.repeat(201)), isPlain('字'.repeat(67)), isPlain('a\u0007'), isPlain('a\u202eb')]).toEqual([false, false, false, false, false])
})
