import type { CustomerStanding } from '$lib/api/types'

/** A payment in the ledger. */
export interface Booked {
  reference: string
  /** Another one stood there already under its reference: nothing was booked now. */
  isRepeated: boolean
  /** What the customer has after it. */
  standing: CustomerStanding
}
