import { dictionary } from './dictionary'

/** Texts for what the API says in its own words. */
const t = dictionary(
  {
    period: 'The first must not be after the last, and a report reaches over ten years at most.',
    order: 'The first must not be after the last.',
    notRun: 'In the earlier period the plant did not run, so there is no cost of it to compare with.',
    notRunLater: 'In the later period the plant did not run, so there is no cost of it to compare.',
    notSold: 'In the earlier period no answers were charged.',
    notSoldLater: 'In the later period no answers were charged.',
    entries: 'This period has more than {count} entries. Choose a shorter one, or whole days.',
    beyondCalendar: 'This time is later than the calendar can count with. Choose an earlier one.',
    paidOut: '{amount} is more than can be paid out: {left} at most.',
    balanceFull: 'With this the balance would pass {most}, the most that is kept.',
    aboveCharge: 'At most what was charged can be given back: {charge}.',
    aboveRest: 'Of the charge of {charge} only {left} is left to give back.',
    noCharge: 'Nothing was charged under this id.',
    usedReference: 'This reference was used before, for {amount}. Choose another one.',
    usedReferenceElse: 'This reference was used before for something else. Choose another one.',
    noAccount: 'There is no account “{name}”. The accounts are listed under Accounts.',
    amountLarge: 'This amount is too large: at most {most} is taken.',
  },
  {
    period: '起始不得晚于结束，报表最长为十年。',
    order: '起始不得晚于结束。',
    notRun: '较早的期间内系统没有运行，因此没有可比较的成本。',
    notRunLater: '较晚的期间内系统没有运行，因此没有可比较的成本。',
    notSold: '较早的期间内没有已计费的回答。',
    notSoldLater: '较晚的期间内没有已计费的回答。',
    entries: '此期间的分录多于 {count} 条，请选择更短的期间或整日。',
    beyondCalendar: '此时间超出日历的范围，请选择更早的时间。',
    paidOut: '{amount} 超过可付出的金额：最多 {left}。',
    balanceFull: '如此余额将超过可记录的最大值 {most}。',
    aboveCharge: '退还不得超过所收费用：{charge}。',
    aboveRest: '费用 {charge} 中仅剩 {left} 可退还。',
    noCharge: '此编号下没有收费。',
    usedReference: '此参考号已用于 {amount}，请换一个。',
    usedReferenceElse: '此参考号已作他用，请换一个。',
    noAccount: '没有账户“{name}”。全部账户列在“账户”中。',
    amountLarge: '金额过大：最多 {most}。',
  },
)

type Say = (...found: string[]) => string

/** The parts of the API's messages that stay the same, and what is said for them. */
const KNOWN: readonly [RegExp, Say][] = [
  [/must be at or before the end, and at most \d+ days before it/, () => t('period')],
  [/must be at or before `end_time`/, () => t('order')],
  [/cannot be compared: later\.plant_seconds: \S+ is not greater than 0/, () => t('notRunLater')],
  [/cannot be compared: earlier\.plant_seconds: \S+ is not greater than 0/, () => t('notRun')],
  [/cannot be compared: (?:tokens|busy_seconds) of later: \S+ is not greater than 0/, () => t('notSoldLater')],
  [/cannot be compared: (?:tokens|busy_seconds) of earlier: \S+ is not greater than 0/, () => t('notSold')],
  [/this period has more than (\d+) entries/, (count = '') => t('entries', { count })],
  [/is beyond the calendar|must be Unix seconds up to the end of/, () => t('beyondCalendar')],
  [/(-?[\d.]+) is more than can be paid out: (-?[\d.]+)/, (amount = '', left = '') => t('paidOut', { amount, left })],
  [/a balance would pass ([\d.]+)/, (most = '') => t('balanceFull', { most })],
  [/is not within the charge of ([\d.]+)/, (charge = '') => t('aboveCharge', { charge })],
  [/is more than the ([\d.]+) that is left of the charge of ([\d.]+)/, (left = '', charge = '') => t('aboveRest', { left, charge })],
  [/no request of this id was charged/, () => t('noCharge')],
  [/it was used before, for another act/, () => t('usedReferenceElse')],
  [/it was used before, for (-?[\d.]+)/, (amount = '') => t('usedReference', { amount })],
  [/there is no account `(.*)`; GET/, (name = '') => t('noAccount', { name })],
  [/is too large; amounts end at ([\d,]+) units/, (most = '') => t('amountLarge', { most })],
]

/** A message of the API in the reader's language, where there is a text for it. */
export function messageText(message: string): string {
  for (const [part, say] of KNOWN) {
    const found = part.exec(message)
    if (found) return say(...found.slice(1))
  }
  return message
}
