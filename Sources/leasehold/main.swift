import ArgumentParser
print("leasehold")
