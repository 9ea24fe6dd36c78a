export const PARTS = ['tfp', 'retention', 'experiments', 'outcomes'] as const

/** Whether an address leads to a part of the page, or to an experiment. */
export function isValuePlace(rest: string): boolean {
  const [part, ...names] = rest.split('/')
  return PARTS.some((one) => one === part) && (names.length === 0 || (part === 'experiments' && names.length === 1))
}
