import { t } from './texts'

/** The word for an experiment's state. */
export function stateOf(state: string): string {
  return state === 'running' || state === 'stopped' ? t(state) : state
}
