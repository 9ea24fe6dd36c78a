/** Units of the ledger that are amounts of the book currency. */
const MONEY: readonly string[] = ['money', 'budget', 'value']

export const isMoney = (unit: string): boolean => MONEY.includes(unit)
