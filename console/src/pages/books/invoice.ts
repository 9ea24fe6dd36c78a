import { urlOf } from '$lib/api/client'

/** Where the PDF of an invoice is: among the plant's for those who keep its books, else among one's own. */
export function pdfOf(organisation: string, label: string, isOfPlant: boolean): string {
  return isOfPlant
    ? urlOf('/admin/v1/organisations/{id}/invoices/{label}', { id: organisation, label: `${label}.pdf` })
    : urlOf('/v1/invoices/{id}', { id: `${label}.pdf` })
}
