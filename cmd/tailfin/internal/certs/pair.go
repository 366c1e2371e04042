package certs

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// maxFile is the longest file of certificates that is read. The CAs that
// browsers trust are a quarter of it.
const maxFile = 1 << 20

const blockCertificate = "CERTIFICATE"

// readPEM reads the file that an option names.
func readPEM(option, path string) ([]byte, error) {
	fail := func(err error, remedy string) ([]byte, error) {
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err // the path is said already
		}
		return nil, &OptionError{option, path, err, remedy}
	}
	const named = "name a PEM file"
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fail(err, "let the user that tailfin runs as enter the folders on the way to it")
	case err != nil:
		return fail(err, named)
	case !info.Mode().IsRegular(): // a pipe could not be read again, and might block
		return fail(errors.New("not a regular file"), named)
	}
	f, err := os.Open(path)
	if err != nil {
		return fail(err, "let the user that tailfin runs as read it, for example by group, or by LoadCredential= of systemd")
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return fail(err, named)
	case len(b) > maxFile:
		return fail(fmt.Errorf("longer than %d bytes", maxFile), "name a file with certificates only")
	case len(bytes.TrimSpace(b)) == 0:
		return fail(errors.New("it is empty"), named)
	}
	return b, nil
}

// pemTypes are the types of the blocks in b. An error says that a block is cut
// off or damaged; pem.Decode would pass over it.
func pemTypes(b []byte) ([]string, error) {
	const begin = "-----BEGIN "
	var types []string
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			block.Type = "ENCRYPTED PRIVATE KEY" // the older form, RFC 1421
		}
		types = append(types, block.Type)
	}
	if n := bytes.Count(b, []byte(begin)); n != len(types) {
		return types, fmt.Errorf("%d of its %d PEM blocks are cut off or damaged", n-len(types), n)
	}
	return types, nil
}

const exchanged = "give the chain with --cert and its key with --key; are the two exchanged?"

// wantBlock checks that b has a block whose type ends in want, else says what
// it is instead. The remedy is for other blocks.
func wantBlock(option, path string, b []byte, want, remedy string) error {
	types, err := pemTypes(b)
	switch {
	case err != nil:
		return &OptionError{option, path, err, "copy it again, whole"}
	case len(types) == 0 && want == blockCertificate && isDER(b):
		return &OptionError{option, path, errors.New("a certificate in DER, not PEM"), "convert it: openssl x509 -inform der -in FILE -out FILE.pem"}
	case len(types) == 0:
		return &OptionError{option, path, errors.New("not PEM"), "convert it: openssl pkcs12 -in FILE -nodes -out FILE.pem for PKCS #12, openssl pkey -inform der for a key in DER"}
	}
	for _, t := range types {
		if t == "ENCRYPTED PRIVATE KEY" && want != blockCertificate {
			return &OptionError{option, path, errors.New("the key is encrypted"), "decrypt it, and let only the user that tailfin runs as read it: openssl pkey -in FILE -out FILE.pem"}
		}
		if strings.HasSuffix(t, want) {
			return nil
		}
	}
	return &OptionError{option, path, fmt.Errorf("it has %s, and no %s", strings.Join(types, ", "), want), remedy}
}

func isDER(b []byte) bool {
	_, err := x509.ParseCertificate(b)
	return err == nil
}

// A pairContent is what the two files of a pair had at one look.
type pairContent struct {
	cert, key []byte
	id        string // of the content: equal for equal content
}

func readPair(certFile, keyFile string) (pairContent, error) {
	cert, err := readPEM("cert", certFile)
	if err != nil {
		return pairContent{}, err
	}
	key, err := readPEM("key", keyFile)
	if err != nil {
		return pairContent{}, err
	}
	return pairContent{cert: cert, key: key, id: contentID(cert, key)}, nil
}

func contentID(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		sum := sha256.Sum256(p) // the end of a part is part of it
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// parsePair makes a certificate of a pair, or says which file is wrong and how.
func parsePair(certFile, keyFile string, c pairContent) (*tls.Certificate, error) {
	if err := wantBlock("cert", certFile, c.cert, blockCertificate, exchanged); err != nil {
		return nil, err
	}
	if err := wantBlock("key", keyFile, c.key, "PRIVATE KEY", exchanged); err != nil {
		return nil, err
	}
	chain, err := parseCertificates("cert", certFile, c.cert)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(c.cert, c.key)
	if err == nil {
		return &cert, nil
	}
	for i, other := range chain[1:] {
		b := pem.EncodeToMemory(&pem.Block{Type: blockCertificate, Bytes: other.Raw})
		if _, otherErr := tls.X509KeyPair(b, c.key); otherErr == nil {
			return nil, &OptionError{"cert", certFile, fmt.Errorf("the key belongs to certificate %d in it, not to the first", i+2), "put the server's own certificate first, and the one that signed it after it"}
		}
	}
	if strings.Contains(err.Error(), "does not match") {
		return nil, &OptionError{"key", keyFile, errors.New("not the key of " + certFile), "give the key that the certificate was made for: openssl x509 -pubkey -noout -in CERT and openssl pkey -pubout -in KEY print the same"}
	}
	return nil, &OptionError{"key", keyFile, err, "give an RSA, ECDSA or Ed25519 key in PEM"}
}

// parseCertificates has all certificates in b, at least one.
func parseCertificates(option, path string, b []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for rest := b; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return all, nil
		}
		if block.Type != blockCertificate {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, &OptionError{option, path, fmt.Errorf("certificate %d in it: %w", len(all)+1, err), "copy it again, whole"}
		}
		all = append(all, cert)
	}
}

// outsideValidity says why cert is not valid now, or nil.
func outsideValidity(cert *x509.Certificate, now time.Time) error {
	switch {
	case now.After(cert.NotAfter):
		return fmt.Errorf("it expired at %s", cert.NotAfter.Format(time.RFC3339))
	case now.Before(cert.NotBefore):
		return fmt.Errorf("it is not valid before %s", cert.NotBefore.Format(time.RFC3339))
	}
	return nil
}
