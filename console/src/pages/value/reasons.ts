import { t } from './texts'

type Say = (...found: string[]) => string

/** Why there is no interval, by what stays the same of the server's words. */
const REASONS: readonly [RegExp, Say][] = [
  [/^fewer than 2 clusters/, () => t('why.fewClusters')],
  [/^all clusters have the same ratio/, () => t('why.sameRatio')],
  [/^too few clusters with a ratio/, () => t('why.fewRatios')],
  [/^a side has fewer than (\d+) units/, (count = '') => t('why.fewUnits', { count })],
  [/^all units have the same value/, () => t('why.sameValue')],
  [/^fewer than 2 units on a side/, () => t('why.fewUnits', { count: 2 })],
  [/^arm (.+) has (\d+) of the (\d+) units/, (arm = '', count = '', needed = '') => t('why.armUnits', { arm, count, needed })],
  [/^an arm has no tokens or units/, () => t('why.nothing')],
  [/^all units of an arm have the same metric/, () => t('why.sameMetric')],
]

/** Why there is no interval, in the reader's language; in the server's words where no text is for it. */
export function reasonText(reason: string): string {
  for (const [part, say] of REASONS) {
    const found = part.exec(reason)
    if (found) return say(...found.slice(1))
  }
  return reason
}
