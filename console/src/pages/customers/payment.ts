import type { CustomerStanding } from '$lib/api/types'

/** A payment in the ledger. */
export interface Booked {
  reference: string
  /** It stood there already: nothing was booked now. */
  isRepeated: boolean
  /** What the customer has after it. */
  standing: CustomerStanding
}
