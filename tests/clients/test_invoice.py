"""Invoices as PDF, read back by an independent reader: every name, line and amount comes out as it went in."""

import io
import json
import subprocess
from decimal import Decimal
from pathlib import Path

import httpx
import pypdf

from customers import ADMIN, MODEL, admin, customer, settings
from plant import Plant, required_path

DOCUMENT = {
    "number": "INV-2026-11-0042",
    "issued": "2026-12-01",
    "seller": "Tokenworks (Shanghai) Co. \\ 词元工厂",
    "customer": "上海智算科技有限公司",
    "customer_id": "org_8Zk3Qp",
    "period": {"start": "2026-11-01 00:00", "end": "2026-12-01 00:00", "time_zone": "Asia/Shanghai"},
    "currency": "USD",
    "lines": [
        {"description": "gpt-4-turbo, input", "tokens": "1,234,567", "rate": "10.00 per 1M", "amount": "12.345670"},
        {"description": "通义千问 7b, 输出", "tokens": "98,765,432", "rate": "0.50 per 1M", "amount": "49.382716"},
    ],
    "subtotal": "61.728386",
    "discount": "-3.086419",
    "credits": [{"description": "Refund of req_81c2, 服务中断", "amount": "-12.00"}],
    "rounding": "-0.001967",
    "total": "46.64",
    "notes": ["Paid within 30 days. 请于三十日内付款。", "서울 주식회사, とうきょう, Москва, €5"],
}

TEXT = """\
Invoice
From
Tokenworks (Shanghai) Co. \\ 词元工厂
Bill to
上海智算科技有限公司
org_8Zk3Qp
Number INV-2026-11-0042
Issued 2026-12-01
Period 2026-11-01 00:00 to 2026-12-01 00:00
Time zone Asia/Shanghai
Currency USD
Description Tokens Rate Amount (USD)
gpt-4-turbo, input 1,234,567 10.00 per 1M 12.345670
通义千问 7b, 输出 98,765,432 0.50 per 1M 49.382716
Subtotal 61.728386
Discount -3.086419
Refund of req_81c2, 服务中断 -12.00
Rounding -0.001967
Total (USD) 46.64
Notes
Paid within 30 days. 请于三十日内付款。
서울 주식회사, とうきょう, Москва, €5
Invoice INV-2026-11-0042 Page 1 of 1"""


def read(document: dict) -> pypdf.PdfReader:
    command = [str(required_path("TOKENWORKS_TEST_INVOICE_BIN"))]
    done = subprocess.run(command, input=json.dumps(document).encode(), capture_output=True, timeout=60, check=True)
    return pypdf.PdfReader(io.BytesIO(done.stdout), strict=True)


def test_text_is_extracted_exactly() -> None:
    reader = read(DOCUMENT)
    assert reader.metadata is not None
    assert reader.metadata.title == "Invoice INV-2026-11-0042"
    assert reader.metadata.author == DOCUMENT["seller"]
    assert reader.root_object["/Lang"] == "en"
    assert [page.extract_text() for page in reader.pages] == [TEXT]


def test_lines_of_all_pages_are_there_once_and_in_order() -> None:
    lines = [
        {"description": f"模型-{n}, input", "tokens": f"{n},000", "rate": "0.50 per 1M", "amount": f"{n}.000500"}
        for n in range(1, 101)
    ]
    pages = read(DOCUMENT | {"lines": lines}).pages
    assert len(pages) > 2
    rows = []
    for number, page in enumerate(pages, 1):
        text = page.extract_text().split("\n")
        assert text[0] == ("Invoice" if number == 1 else "Invoice INV-2026-11-0042 (continued)")
        assert text[-1] == f"Invoice INV-2026-11-0042 Page {number} of {len(pages)}"
        found = [line for line in text if line.startswith("模型-")]
        assert text.count("Description Tokens Rate Amount (USD)") == (1 if found else 0)
        rows += found
    assert rows == [f"{e['description']} {e['tokens']} {e['rate']} {e['amount']}" for e in lines]


def test_names_of_many_scripts() -> None:
    names = [
        "ĀāĂăĄąĆćČčĎďĐđĒēĖėĘęĚěĞğĢģĪīĮįİıĶķĹĺĻļĽľŁł",
        "ŃńŅņŇňŌōŐőŔŕŖŗŘřŚśŞşŢţŤťŪūŮůŰűŲųŹźŻżȘș−",
        "ÀÉÎÕÜßæøþÿ “Œuvre” – ‘ž’ • 50 % ¥ £",
        "東京株式会社 龍門集團 㐂㑇",
        "대한민국 훈민정음 뷁",
        "ΑΒΓΩ αβγω АБВЯЁ абвяё",
    ]
    for name in names:
        text = read(DOCUMENT | {"customer": name}).pages[0].extract_text()
        assert name in text.split("\n"), text


def test_what_no_font_has_is_seen_to_be_missing() -> None:
    text = read(DOCUMENT | {"customer": "A 👩‍👧 ش \U00020bb7 B"}).pages[0].extract_text()
    assert "A □□ □ □ B" in text.split("\n"), text


def test_a_customer_with_a_chinese_name_gets_an_invoice_that_adds_up(tmp_path: Path) -> None:
    name, reason = "上海智算科技有限公司", "服务中断"
    with Plant([MODEL], settings(tmp_path)) as plant:
        key = customer(plant, name, discount_permille=50, calendar={"zone": "Asia/Shanghai"})
        bearer = {"Authorization": f"Bearer {key}"}
        body = {"model": MODEL, "prompt": "A story about a river:", "max_tokens": 200, "ignore_eos": True}
        answer = httpx.post(f"{plant.url}/v1/completions", json=body, headers=bearer, timeout=300)
        reply = answer.raise_for_status().json()
        charged = Decimal(reply["usage"]["charged"]["amount"])
        credit = {"request": reply["id"], "amount": "0.005", "reference": "c1", "reason": reason}
        admin(plant, "POST", "/credits", credit)
        url = f"{plant.url}/v1/invoices/current"
        invoice = httpx.get(url, headers=bearer).raise_for_status().json()
        pdf = httpx.get(f"{url}.pdf", headers=bearer).raise_for_status()
        asked = httpx.get(url, headers=bearer | {"Accept": "application/pdf"}).raise_for_status()
        path = f"/admin/v1/organisations/acme/invoices/{invoice['id']}.pdf"
        theirs = httpx.get(f"{plant.url}{path}", headers={"Authorization": f"Bearer {ADMIN}"}).raise_for_status()

    amounts = {line["kind"]: Decimal(line["amount"]) for line in invoice["lines"]}
    assert sum(Decimal(line["amount"]) for line in invoice["lines"]) == Decimal(invoice["total"])
    assert Decimal(invoice["total"]) - amounts["rounding"] == charged + amounts["credit"]
    assert amounts["credit"] == Decimal("-0.005")

    assert pdf.headers["content-type"] == "application/pdf"
    assert pdf.content == asked.content == theirs.content
    reader = pypdf.PdfReader(io.BytesIO(pdf.content), strict=True)
    text = "\n".join(page.extract_text() for page in reader.pages).split("\n")
    for shown in [name, f"Number {invoice['number']}", "Time zone Asia/Shanghai", "From", "Tokenworks plant"]:
        assert shown in text, text
    assert any(line.startswith(f"{MODEL}, output, price 1 200 30 per 1M 0.006") for line in text), text
    assert f"Subtotal {invoice['subtotal']}" in text
    assert f"Discount {amounts['discount']}" in text
    assert f"Rounding {amounts['rounding']}" in text
    assert f"Total (USD) {invoice['total']}" in text
    # Where a line ends is no part of what it says.
    assert reason in "".join(text), text
