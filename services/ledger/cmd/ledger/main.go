// Command ledger runs the ledger service as a process of its own.
package main

import (
	"github.com/postrider/postrider/services/ledger"
	"github.com/postrider/postrider/shared/service"
)

func main() { service.Main(ledger.Service) }
