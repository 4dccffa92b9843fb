// Command delivery runs the delivery service as a process of its own.
package main

import (
	"github.com/postrider/postrider/services/delivery"
	"github.com/postrider/postrider/shared/service"
)

func main() { service.Main(delivery.Service) }
