package passkit

import (
	"strings"
	"unicode/utf8"
)

// A Barcode is what a reader scans. Wallet shows the first of a pass that the device
// can.
type Barcode struct {
	Format          BarcodeFormat `json:"format,omitzero"`          // required
	Message         string        `json:"message,omitzero"`         // required
	MessageEncoding string        `json:"messageEncoding,omitzero"` // required: an IANA name, mostly iso-8859-1
	AltText         string        `json:"altText,omitzero"`
	Unknown         Members       `json:",embed"`
}

// BarcodeFormat is a symbology.
type BarcodeFormat string

// The formats.
const (
	BarcodeQR      BarcodeFormat = "PKBarcodeFormatQR"
	BarcodePDF417  BarcodeFormat = "PKBarcodeFormatPDF417"
	BarcodeAztec   BarcodeFormat = "PKBarcodeFormatAztec"
	BarcodeCode128 BarcodeFormat = "PKBarcodeFormatCode128"

	// From iOS 27 on.
	BarcodeCode39  BarcodeFormat = "PKBarcodeFormatCode39"
	BarcodeCodabar BarcodeFormat = "PKBarcodeFormatCodabar"
	BarcodeEAN13   BarcodeFormat = "PKBarcodeFormatEAN13"
	BarcodeI2of5   BarcodeFormat = "PKBarcodeFormatI2of5"
)

func (p *Pass) checkBarcodes(c *checker) {
	newer := 0
	for i := range p.Barcodes {
		b := &p.Barcodes[i]
		b.check(c, index("/barcodes", i))
		switch b.Format {
		case BarcodeCode39, BarcodeCodabar, BarcodeEAN13, BarcodeI2of5:
			newer++
		}
	}
	if newer > 0 && newer == len(p.Barcodes) {
		c.warn("/barcodes", "has only formats that devices before iOS 27 do not show", "add one of QR, PDF417, Aztec, Code128 after them")
	}
	if p.Barcode != nil {
		p.Barcode.check(c, "/barcode")
		if len(p.Barcodes) == 0 {
			c.warn("/barcode", "is deprecated", "use barcodes, an array")
		}
	}
}

func (b *Barcode) check(c *checker, path string) {
	if b.Format == "" {
		c.err(member(path, "format"), "is missing", "use "+string(BarcodeQR)+" or another format")
	}
	oneOf(c, member(path, "format"), b.Format, BarcodeQR, BarcodePDF417, BarcodeAztec, BarcodeCode128,
		BarcodeCode39, BarcodeCodabar, BarcodeEAN13, BarcodeI2of5)
	if b.Message == "" {
		c.err(member(path, "message"), "is missing", "give what the reader should read")
	}
	switch {
	case b.MessageEncoding == "":
		c.err(member(path, "messageEncoding"), "is missing", "use iso-8859-1, or the encoding that your readers expect")
	case strings.EqualFold(b.MessageEncoding, "iso-8859-1") && !latin1(b.Message):
		c.err(member(path, "message"), "has characters that iso-8859-1 does not have", "set messageEncoding to utf-8, or use other characters")
	}
	if b.Format == BarcodeEAN13 && !ean13(b.Message) {
		c.warn(member(path, "message"), "is not an EAN-13: 13 digits with the check digit last", "correct the digits")
	}
	if b.Format == BarcodeI2of5 && (len(b.Message)%2 == 1 || !digits(b.Message)) {
		c.warn(member(path, "message"), "is not an even number of digits, as Interleaved 2 of 5 needs", "add a leading 0 or use another format")
	}
	c.unknown(path, b.Unknown)
}

func latin1(s string) bool {
	for _, r := range s {
		if r > 0xff || r == utf8.RuneError {
			return false
		}
	}
	return true
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" }

// ean13 checks length and check digit: weights 1 and 3 in turn, the sum a multiple of
// ten (GS1 General Specifications, 7.9).
func ean13(s string) bool {
	if len(s) != 13 || !digits(s) {
		return false
	}
	sum := 0
	for i, d := range s {
		sum += int(d-'0') * (1 + 2*(i%2))
	}
	return sum%10 == 0
}
