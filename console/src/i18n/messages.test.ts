import { describe, expect, it, vi } from 'vitest'
import { messageText } from './messages'

// Texts ask the browser for its language.
vi.hoisted(() => vi.stubGlobal('navigator', { languages: ['zh-CN'] }))

const COMPARED = 'these periods cannot be compared: '
/** As the server writes them, and what must be in the reader's text. */
const MESSAGES: Readonly<Record<string, string>> = {
  '`start_time` must be at or before the end, and at most 3660 days before it': '十年',
  '`start_time` must be at or before `end_time`': '不得晚于',
  [`${COMPARED}earlier.plant_seconds: 0 is not greater than 0; compare periods in which the plant kept costs and served requests`]: '较早的期间内系统没有运行',
  [`${COMPARED}later.plant_seconds: 0 is not greater than 0; x`]: '较晚的期间内系统没有运行',
  [`${COMPARED}tokens of earlier: 0 is not greater than 0; x`]: '较早的期间内没有已计费',
  [`${COMPARED}busy_seconds of later: 0 is not greater than 0; x`]: '较晚的期间内没有已计费',
  'this period has more than 100000 entries; ask for less time': '100000',
  'time: it is beyond the calendar, which ends with the year 9999; take an earlier time': '日历',
  '`end_time` must be Unix seconds up to the end of the year 9999; got `253402300800`': '日历',
  'amount: -50.00 is more than can be paid out: 5.00, with the credit and without holds; pay out less': '-50.00 超过可付出的金额：最多 5.00',
  'amount: with 9.00 more a balance would pass 9223372036.854775807, the most that is kept; check': '9223372036.854775807',
  'amount: 3.00 is not within the charge of 0.25; give back at most what was charged': '0.25',
  'amount: 3.00 is more than the 0.10 that is left of the charge of 0.25; give back at most what is left': '0.25 中仅剩 0.10',
  'request: no request of this id was charged; take the `id` of its answer': '没有收费',
  'reference: it was used before, for 7.00; name another act by another reference': '7.00',
  'reference: it was used before, for another act; name another act by another reference': '已作他用',
  'there is no account `money/x`; GET /admin/v1/ledger/accounts lists them': 'money/x',
  'amount: `9223372037` is too large; amounts end at 9,223,372,036 units of the currency': '9,223,372,036',
}

describe('what the API says', () => {
  for (const [message, part] of Object.entries(MESSAGES)) {
    it(`is told in Chinese: ${message.slice(0, 60)}`, () => {
      expect(messageText(message)).toContain(part)
      expect(messageText(message)).not.toMatch(/[a-z]{3,} [a-z]{2,}/)
    })
  }

  it('stays as it is where no text is for it', () => {
    expect(messageText('earlier.plant_seconds: something new')).toBe('earlier.plant_seconds: something new')
    expect(messageText(`${COMPARED}busy_seconds of later: 9 are more than the 8 there were; x`)).toContain('9 are more')
  })
})
