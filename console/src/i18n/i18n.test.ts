import { expect, it } from 'vitest'
import { chooseLanguage } from './choose'
import { fill } from './fill'

it('takes the first language that there is a dictionary for', () => {
  expect(chooseLanguage(['fr-FR', 'zh-Hant-TW', 'en'])).toBe('zh')
  expect(chooseLanguage(['EN-GB', 'zh'])).toBe('en')
  expect(chooseLanguage([])).toBe('en')
})

it('fills gaps, and leaves those without a value', () => {
  expect(fill('{a} of {b}, {a}', { a: 1, b: 'x' })).toBe('1 of x, 1')
  expect(fill('{a}')).toBe('{a}')
  expect(fill('{a}', { a: '$&' })).toBe('$&')
})
