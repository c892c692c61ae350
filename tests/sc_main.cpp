// SystemC owns main(); the tests run inside its sc_main().
#include <catch2/catch_session.hpp>
#include <systemc>

int sc_main(int argc, char* argv[]) { return Catch::Session().run(argc, argv); }
