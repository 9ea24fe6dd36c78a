import { UNITS } from './entries'
import { t } from './texts.ledger'

/** The word for a unit. */
export function unitOf(unit: string): string {
  const known = UNITS.find((one) => one === unit)
  return known ? t(`unit.${known}`) : unit
}
